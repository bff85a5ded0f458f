// The story of a key, told with a mouse and a keyboard: made, used, remembered, counted, revoked.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { eventually, launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, startRouter } from "./router.mjs";

let router;
let browser;
let page;
let close;
let token;

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
});

after(async () => {
  await browser?.close();
  await router?.stop();
});

const ask = (key, body) => fetch(`${router.url}/v1/chat/completions`, {
  method: "POST",
  headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
  body: JSON.stringify(body),
});
const hello = { model: "demo/echo", messages: [{ role: "user", content: "hello" }] };
const menuOf = async (name, item) => {
  await page.getByRole("button", { name: `Actions for ${name}` }).click();
  await page.getByRole("menuitem", { name: item }).click();
};

test("a wrong token does not log in, and is not kept", async () => {
  const opened = await openPage(browser, router, { expected: [/401/] });
  await opened.page.getByLabel("Admin token").fill("adm_wrong");
  await opened.page.keyboard.press("Enter");
  await opened.page.getByText("Wrong admin token").waitFor();
  assert.equal(await opened.page.getByRole("navigation").count(), 0);
  assert.equal((await opened.page.context().cookies()).length, 0);
  await opened.close();
});

test("the right token does; scripts cannot read the session", async () => {
  // The last test ends a session, which the console tells of; the one on dialects is refused.
  ({ page, close } = await openPage(browser, router, { expected: [/401.*\/admin\/v1\//, /400.*\/playground/] }));
  await logIn(page, router);
  const [cookie] = await page.context().cookies();
  assert.equal(cookie.httpOnly, true);
  assert.equal(cookie.sameSite, "Strict");
  const kept = await page.evaluate(() => document.cookie + JSON.stringify(localStorage) + JSON.stringify(sessionStorage));
  assert.ok(!kept.includes(router.adminToken));
});

test("a key is made, its token shown once, with code that names it", async () => {
  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("story");
  await dialog.getByLabel("Requests per minute").fill("many");
  await dialog.getByRole("button", { name: "Create key" }).click();
  await dialog.getByText("A whole number above 0").waitFor();
  await dialog.getByLabel("Requests per minute").fill("600");
  await dialog.getByRole("button", { name: "Create key" }).click();
  await page.getByText("Copy it now").waitFor();
  token = (await page.locator(".token code").textContent()).trim();
  assert.match(token, /^mk_[0-9A-Za-z]{49}$/);
  const curl = await page.getByRole("tabpanel").textContent();
  for (const name of ["curl", "OpenAI, Python", "OpenAI, Node", "Anthropic, Python", "Google, Python"]) {
    await page.getByRole("tab", { name }).click();
    const code = await page.getByRole("tabpanel").textContent();
    assert.ok(code.includes(token) && code.includes(router.url), name);
  }
  await page.keyboard.press("Escape");
  assert.ok(await page.getByText("Copy it now").isVisible(), "a key press must not lose the token");
  await page.getByRole("button", { name: "I have copied it" }).click();
  await page.getByRole("rowheader", { name: /story/ }).waitFor();
  assert.ok(!(await page.content()).includes(token));
  await eventually("the key's first answer", async () => (await ask(token, hello)).ok);
  // The command that was shown works as it stands.
  const { stdout } = await promisify(execFile)("sh", ["-c", curl.replace(/Copy$/, "")]);
  assert.equal(JSON.parse(stdout).choices[0].message.role, "assistant");
});

test("a provider key is added, tested and used", async () => {
  await visit(page, "Settings");
  const add = async (key) => {
    await page.getByRole("button", { name: /^openai$|Add another/ }).first().click();
    await page.getByRole("dialog").getByLabel("Provider key").fill(key);
    await page.getByRole("button", { name: "Add key" }).click();
    await page.getByText(`…${key.slice(-4)}`, { exact: true }).waitFor();
  };
  await add("sk-scripted-wrong-9876");
  await page.getByRole("button", { name: "Test the openai key …9876" }).click();
  await page.getByText("Does not work").waitFor();
  await page.getByRole("button", { name: "Remove the openai key …9876" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await page.getByText("…9876", { exact: true }).waitFor({ state: "detached" });
  await add(GOOD_PROVIDER_KEY);
  await page.getByRole("button", { name: "Test the openai key …1234" }).click();
  await page.getByText("Works", { exact: true }).waitFor();
  assert.ok(!(await page.content()).includes(GOOD_PROVIDER_KEY));
});

test("a message goes through the playground", async () => {
  await visit(page, "Playground");
  await page.getByLabel("Memory key").selectOption({ label: `story · …${token.slice(-4)}` });
  await page.getByLabel("Model").fill("openai/gpt-4o");
  await page.getByLabel("Session").fill("sweets");
  await page.getByLabel("Message").fill("I like liquorice <img src=x onerror=alert(1)> very much");
  await page.keyboard.press("Enter");
  await page.getByText("Noted: you like liquorice <b>very</b> much.").waitFor();
  await page.getByText("Whole answer").waitFor();
  const sent = router.provider.received.at(-1);
  assert.equal(sent.authorization, `Bearer ${GOOD_PROVIDER_KEY}`);
  assert.ok(!JSON.stringify(sent).includes("mk_"));
  assert.ok(await page.getByText("200", { exact: true }).first().isVisible());
});

test("what was said is recalled, with its reason", async () => {
  await page.getByRole("button", { name: "New conversation" }).click();
  await eventually("a recall", async () => {
    const turns = await page.getByRole("article", { name: "Answer" }).count();
    await page.getByLabel("Message").fill("Which sweets do I like? Liquorice?");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator(".turn:not([aria-busy]) .folds").nth(turns).waitFor();
    const summary = await page.getByText(/^Recalled memories \(\d+\)$/).last().textContent();
    return summary !== "Recalled memories (0)";
  });
  await page.getByText(/^Recalled memories/).last().click();
  await page.locator(".recalled .text").getByText("I like liquorice <img src=x onerror=alert(1)> very much").last().waitFor();
  assert.ok(router.provider.received.at(-1).body.includes("I like liquorice"), "the provider did not get the memory");
});

test("each dialect, streamed and whole, a mode without memory, and a provider's refusal", async () => {
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel("Model").fill("demo/echo");
  await page.getByText("Off", { exact: true }).click();
  let turns = 0;
  const say = async (text) => {
    await page.getByLabel("Message").fill(text);
    await page.getByRole("button", { name: "Send" }).click();
    const turn = page.getByRole("article", { name: "Answer" }).nth(turns);
    await page.locator(".turn:not([aria-busy]) .folds").nth(turns).waitFor();
    turns += 1;
    return turn.textContent();
  };
  for (const dialect of ["openai", "anthropic", "google"]) {
    await page.getByLabel("Dialect").selectOption(dialect);
    for (const stream of [true, false]) {
      await page.getByLabel("Stream the answer").setChecked(stream);
      const text = `${dialect} ${stream}`;
      const answer = await say(text);
      assert.ok(answer.includes(`You said: ${text}`), answer);
      assert.ok(answer.includes("Recalled memories (0)"), answer);
    }
  }
  await page.getByLabel("Dialect").selectOption("openai");
  await page.getByLabel("Model").fill("mistral/some-model");
  assert.ok((await say("hello")).includes("No API key configured for provider: mistral"));
});

test("it is found in memory, taken out, deleted and brought in again", async () => {
  await visit(page, "Memory");
  await page.getByLabel("Memory key").selectOption({ label: `story · …${token.slice(-4)}` });
  await page.getByLabel("Search memories").fill("liquorice");
  const found = page.locator(".memory .text").getByText("I like liquorice <img src=x onerror=alert(1)> very much", { exact: true });
  await found.waitFor();
  assert.equal(await page.locator("main img").count(), 0, "stored text must stay text");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
  const exported = await readFile(await download.path(), "utf8");
  assert.ok(exported.split("\n").some((line) => line && JSON.parse(line).content.startsWith("I like liquorice")));

  const entry = page.locator("li.memory").filter({ hasText: "I like liquorice <img src=x onerror=alert(1)> very much" }).filter({ hasText: "user" });
  await entry.getByRole("button", { name: "Delete this memory" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await found.waitFor({ state: "detached" });

  const file = join(tmpdir(), `memoryrouter-import-${process.pid}.jsonl`);
  await writeFile(file, exported);
  await page.getByRole("button", { name: "Import" }).click();
  await page.getByLabel("JSONL file").setInputFiles(file);
  await page.getByRole("dialog").getByRole("button", { name: "Import" }).click();
  await page.getByText(/Done: 1 stored/).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
  await found.waitFor();

  await page.getByRole("button", { name: "Delete all" }).click();
  await page.getByRole("dialog").getByRole("textbox").fill("delete");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Nothing matches").waitFor();
});

test("usage moved, and comes as a file", async () => {
  await visit(page, "Usage");
  const requests = async () => Number((await page.locator(".tile .figure").first().textContent()).replace(",", ""));
  await eventually("usage", async () => {
    await page.getByText("7 days", { exact: true }).click();
    await page.getByText("30 days", { exact: true }).click();
    await page.locator(".tile .figure, .empty").first().waitFor();
    return await page.locator(".tile .figure").count() && await requests() >= 3;
  });
  const earlier = await requests();
  assert.ok((await ask(token, hello)).ok);
  await eventually("usage to move", async () => {
    await page.getByText("7 days", { exact: true }).click();
    await page.getByText("30 days", { exact: true }).click();
    await page.locator(".tile .figure").first().waitFor();
    return await requests() > earlier;
  });
  await page.getByText("Key", { exact: true }).click();
  await page.getByRole("rowheader", { name: /story/ }).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download CSV" }).click()]);
  assert.match(await readFile(await download.path(), "utf8"), /^day,key,.*requests/);
});

test("the overview sees the traffic", async () => {
  await visit(page, "Overview");
  await page.getByRole("rowheader", { name: "/v1/chat/completions" }).first().waitFor();
  await page.getByRole("table", { name: "Providers" }).getByRole("rowheader", { name: "openai" }).waitFor();
});

test("the token is rotated: the new one works, the old one for its grace", async () => {
  await visit(page, "API Keys");
  await menuOf("story", "Rotate token");
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  await page.getByText("Copy it now").waitFor();
  const rotated = (await page.locator(".token code").textContent()).trim();
  await page.getByRole("button", { name: "I have copied it" }).click();
  assert.notEqual(rotated, token);
  await eventually("the new token", async () => (await ask(rotated, hello)).ok);
  assert.ok((await ask(token, hello)).ok);
});

test("a key is edited", async () => {
  await menuOf("story", "Edit");
  const dialog = page.getByRole("dialog");
  assert.equal(await dialog.getByLabel("Requests per minute").inputValue(), "600");
  await dialog.getByLabel("Models").fill("openai/*, demo/*");
  await dialog.getByLabel("Token budget").fill("2,000,000");
  await dialog.getByLabel("Budget is for").selectOption("month");
  await dialog.getByLabel("Expires").selectOption({ label: "In 30 days" });
  await dialog.getByRole("button", { name: "Save" }).click();
  await page.getByText("600 req/min · 2.0M tok/month").waitFor();
  await page.getByText("openai/*, demo/*").waitFor();
  await page.getByText(/^in 29 d/).waitFor();
  await eventually("the model's refusal", async () => (await ask(token, { ...hello, model: "mistral/x" })).status === 403);
});

test("once revoked, the next call is refused; enabled, it is served again", async () => {
  await menuOf("story", "Revoke");
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText("revoked", { exact: true }).waitFor();
  await eventually("the refusal", async () => (await ask(token, hello)).status === 401);
  await menuOf("story", "Enable");
  await page.getByText("active", { exact: true }).waitFor();
  await eventually("the answer", async () => (await ask(token, hello)).ok);
});

test("configuration, snapshot and log are seen and steered", async () => {
  await visit(page, "Settings");
  await page.getByText("[server]").click();
  await page.locator("details[open]").getByText("listen", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Read it now" }).click();
  await page.getByText(/Nothing new|is in use/).first().waitFor();
  await page.getByLabel("Level").selectOption("debug");
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("The log follows at once").waitFor();
});

test("the theme is chosen and kept; the system's is the default", async () => {
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await ground();
  for (const theme of ["light", "dark"]) await page.getByRole("button", { name: /^Theme: / }).click().then(() => page.getByRole("button", { name: `Theme: ${theme}` }).waitFor());
  assert.notEqual(await ground(), light);
  await page.reload();
  await page.getByRole("button", { name: "Theme: dark" }).click();
  assert.equal(await ground(), light);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
});

test("it works by keyboard alone", async () => {
  await page.goto(`${router.admin}/#/overview`);
  await page.reload();
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  await visit(page, "API Keys");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
  await page.getByRole("button", { name: "Actions for story" }).press("Enter");
  const focused = (text) => page.waitForFunction((wanted) => document.activeElement.textContent === wanted, text);
  await focused("Code snippets");
  await page.keyboard.press("ArrowDown");
  await focused("Try in playground");
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Create key" }).press("Enter");
  for (let step = 0; step < 40; step += 1) {
    await page.keyboard.press("Tab");
    assert.ok(await page.evaluate(() => document.activeElement === document.body || document.querySelector("dialog").contains(document.activeElement)), "the focus left the dialog");
  }
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement.textContent.trim()), "Create key");
});

test("the key is deleted, and logging out ends the session", async () => {
  await menuOf("story", "Delete");
  await page.getByRole("dialog").getByRole("textbox").fill("story");
  await page.getByRole("button", { name: "Delete for good" }).click();
  await page.getByText("No memory keys yet").waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await logIn(page, router);
  await visit(page, "Overview");
  await page.getByText("Serving").waitFor();
  await page.context().clearCookies();
  await page.getByText("Your session has ended").waitFor();
  await close();
});
