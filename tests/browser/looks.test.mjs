// Every page, light and dark, narrow and wide: nothing overflows, axe finds nothing, and a picture is kept in `shots`.
import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, logIn, openPage, visit } from "./browser.mjs";
import { startRouter } from "./router.mjs";

// Run by the test as the debugger would, past the page's own policy.
const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SHOTS = join(import.meta.dirname, "shots");
const SIZES = [[1440, 900], [1024, 768], [844, 390], [390, 844]];
const HOSTILE = ["<script>alert(1)</script>", "x".repeat(300), "line\n".repeat(3000), "W".repeat(60_000), "My cat Miso eats salmon only.", "日本語のメモ", "\u202Eright to left\u202C"];
let router;
let browser;

before(async () => {
  await mkdir(SHOTS, { recursive: true });
  [router, browser] = await Promise.all([startRouter(), launch()]);
  await furnish();
});

after(async () => {
  await browser?.close();
  await router?.stop();
});

/** Something to see on every page, made through the API. */
async function furnish() {
  const api = async (method, path, body) => {
    const answer = await fetch(`${router.admin}/admin/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${router.adminToken}`, ...(body && { "content-type": "application/json" }) },
      body: body && JSON.stringify(body),
    });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
    return answer.json();
  };
  const keys = [];
  for (const wanted of [{ name: "support-bot" }, { name: "long", account: "a".repeat(128), models: Array.from({ length: 60 }, (_, at) => `very/long-name-of-a-model-${at}*`) }, { name: "<img src=x onerror=alert(1)>", models: ["openai/*", "claude*"], limits: { rpm: 60, tpm: 100000, budget_tokens: 2000000, budget_period: "day" } }, { name: "ci", account: "acme", manage_keys: true, expires_in_s: 864000 }]) {
    keys.push(await api("POST", "/keys", wanted));
  }
  await api("PATCH", `/keys/${keys[2].id}`, { state: "revoked" });
  await api("POST", `/accounts/default/providers/openai`, { key: "sk-never-used-5678" });
  const messages = [...HOSTILE, "What does my cat eat?"];
  for (const [at, content] of messages.entries()) {
    const call = () => fetch(`${router.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${keys[0].token}`, "content-type": "application/json", ...(at % 2 && { "x-session-id": `looks${"-".repeat(123)}` }) },
      body: JSON.stringify({ model: "demo/echo", messages: [{ role: "user", content }] }),
    });
    // The first one waits until every core knows the key.
    for (let tries = 0; !(await call()).ok && tries < 40; tries += 1) await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}

async function look(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert.ok(wide <= 0, `${name} is ${wide} px too wide`);
  const { width, height } = page.viewportSize();
  const whole = await page.evaluate(() => (document.querySelector("dialog[open]") ? 0 : document.documentElement.scrollHeight));
  await page.setViewportSize({ width, height: Math.max(height, whole) });
  // Charts follow the width in a frame of their own.
  await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
  await page.setViewportSize({ width, height });
  await page.evaluate(AXE);
  const wrong = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`).join(" | ")}`);
  });
  assert.deepEqual(wrong, [], name);
}

const quiet = (page) => page.waitForFunction(() => !document.querySelector(".loading"));

for (const [width, height] of SIZES) {
  for (const colorScheme of ["light", "dark"]) {
    test(`${width} px, ${colorScheme}`, async () => {
      const { page, close } = await openPage(browser, router, { width, height, colorScheme });
      const shot = (name) => look(page, `${name}-${width}-${colorScheme}`);
      await page.getByLabel("Admin token").waitFor();
      await shot("login");
      await logIn(page, router);
      await page.getByText("/v1/chat/completions").first().waitFor();
      await shot("overview");
      await visit(page, "API Keys");
      await page.getByRole("rowheader", { name: "support-bot" }).waitFor();
      await shot("keys");
      await page.getByRole("button", { name: "Create key" }).click();
      await page.getByRole("dialog").waitFor();
      await shot("keys-create");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: "Actions for support-bot" }).click();
      await page.getByRole("menuitem", { name: "Code snippets" }).click();
      await page.getByRole("tab").first().waitFor();
      await shot("keys-code");
      await page.getByRole("button", { name: "Done" }).click();
      await page.getByRole("button", { name: "Actions for support-bot" }).click();
      await page.getByRole("menuitem", { name: "Memories" }).click();
      await page.getByText("My cat Miso eats salmon only.").first().waitFor();
      await shot("memory");
      const high = () => page.evaluate(() => document.documentElement.scrollHeight);
      const before = await high();
      assert.ok(before < 12_000, `${before} px of memories`);
      await page.getByRole("button", { name: "Show all 60,000 characters" }).click();
      assert.ok(await high() > before);
      await page.getByRole("button", { name: "Show less" }).click();
      assert.equal(await high(), before);
      await visit(page, "Playground");
      // Folded where it is narrow.
      if (width < 1081) await page.getByRole("heading", { name: "Request" }).click();
      await page.getByLabel("Memory key").selectOption(await page.getByRole("option", { name: /support-bot/ }).getAttribute("value"));
      await page.getByLabel("Message").fill("What does my cat eat?");
      await page.keyboard.press("Enter");
      await page.getByText(/^Recalled memories/).click();
      await shot("playground");
      await visit(page, "Usage");
      await page.getByRole("rowheader").first().waitFor();
      await shot("usage");
      await visit(page, "Settings");
      await quiet(page);
      await page.getByText("[server]").click();
      await page.getByLabel("Account").selectOption("a".repeat(128));
      await page.getByText("No provider keys in this account").waitFor();
      await shot("settings");
      await close();
    });
  }
}
