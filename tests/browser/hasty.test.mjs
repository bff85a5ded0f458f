// Impatient people and sessions that end: double clicks, dialogs left too early, two tabs, a router that starts anew.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { eventually, launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, NEVER_ENDS, startRouter } from "./router.mjs";

let router;
let browser;
let page;
let close;
let key;

const api = async (method, path, body) => {
  const answer = await fetch(`${router.admin}/admin/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${router.adminToken}` },
    body: body && (typeof body === "string" ? body : JSON.stringify(body)),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return JSON.parse((await answer.text()).trim().split("\n").at(-1));
};
const openPlayground = async (model) => {
  await visit(page, "Playground");
  await eventually("a key", () => page.getByLabel("Memory key").inputValue());
  await page.getByLabel("Model").fill(model);
};
/** Answers to what `matches` come only when the function that this returns is called. */
const hold = async (matches, method) => {
  let release;
  const released = new Promise((resolve) => { release = resolve; });
  await page.route(matches, async (route) => {
    if (route.request().method() === method) await released;
    await route.continue().catch(() => {});
  });
  return release;
};

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
  key = await api("POST", "/keys", { name: "app" });
  ({ page, close } = await openPage(browser, router, { expected: [/40[13] \(/] }));
  await logIn(page, router);
});

after(async () => {
  await close?.();
  await browser?.close();
  await router?.stop();
});

afterEach(() => page?.unrouteAll());

test("a token whose dialog was left before it came is shown all the same", async () => {
  await visit(page, "API Keys");
  const leave = {
    Escape: () => page.keyboard.press("Escape"),
    Cancel: () => page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click(),
    "another page": () => page.goBack(),
  };
  for (const [how, left] of Object.entries(leave)) {
    await visit(page, "API Keys");
    const release = await hold(/\/admin\/v1\/keys$/, "POST");
    await page.getByRole("button", { name: "Create key" }).first().click();
    await page.getByRole("dialog").getByLabel("Name").fill(`left by ${how}`);
    await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
    await left();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    release();
    await page.getByText("Copy it now").waitFor();
    assert.match(await page.locator(".token code").textContent(), /^mk_/, how);
    await page.getByRole("button", { name: "I have copied it" }).click();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.unrouteAll();
  }
});

test("a token is shown although nothing else answers", async () => {
  await visit(page, "API Keys");
  const release = await hold(/\/admin\/v1\/(models|overview)/, "GET");
  await page.getByRole("button", { name: "Actions for app" }).click();
  await page.getByRole("menuitem", { name: "Rotate token" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate" }).click();
  await page.locator(".token code").waitFor();
  assert.equal(await page.getByRole("tab").count(), 0);
  release();
  await page.getByRole("tab").first().waitFor();
  await page.getByRole("button", { name: "I have copied it" }).click();
});

test("the second click of a double one does nothing in the dialog that the first one opened", async () => {
  await page.setViewportSize({ width: 390, height: 844 });
  const lines = Array.from({ length: 30 }, (_, at) => JSON.stringify({ content: `memory ${at}` })).join("\n");
  await api("POST", `/keys/${key.id}/memories/import`, lines);
  await page.goto(`${router.admin}/#/memory?key=${key.id}`);
  const trash = page.getByRole("button", { name: "Delete this memory" }).nth(15);
  await trash.click();
  const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
  const [, wanted] = middle(await page.getByRole("dialog").getByRole("button", { name: "Delete" }).boundingBox());
  await page.keyboard.press("Escape");
  // Both buttons at one place of the screen.
  await page.evaluate((by) => window.scrollBy(0, by), middle(await trash.boundingBox())[1] - wanted);
  await page.mouse.dblclick(...middle(await trash.boundingBox()));
  await page.getByText("Delete this memory?").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal((await api("GET", `/keys/${key.id}/memories`)).stats.memories, 30);
  await page.setViewportSize({ width: 1440, height: 900 });

  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().dblclick();
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).dblclick();
  await page.getByText("Copy it now").waitFor();
  await page.mouse.click(5, 5);
  await page.getByRole("button", { name: "I have copied it" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("a click that was meant for the form does not put the token away", async () => {
  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  await page.evaluate(() => {
    const copied = () => [...document.querySelectorAll("dialog button")].find((one) => one.textContent === "I have copied it");
    new MutationObserver((_, observer) => {
      if (!copied()) return;
      observer.disconnect();
      copied().click();
    }).observe(document.body, { childList: true });
  });
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
  await page.getByRole("button", { name: "I have copied it" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("a tab goes on with the session that another tab began", async () => {
  await visit(page, "Settings");
  const other = await page.context().newPage();
  await other.goto(router.admin);
  await other.getByRole("button", { name: "Log out" }).click();
  await other.getByLabel("Admin token").waitFor();
  await logIn(other, router);
  await other.close();
  await page.getByRole("button", { name: "Apply" }).click();
  await page.getByText("The log follows at once").waitFor();
});

test("who is logged out is told so in the playground too", async () => {
  await openPlayground("demo/echo");
  await page.context().clearCookies();
  await page.getByLabel("Message").fill("hello");
  await page.keyboard.press("Enter");
  await page.getByText("Your session has ended").waitFor();
  await logIn(page, router);
});

test("a token stays when the session ends behind it", async () => {
  await visit(page, "Overview");
  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
  await page.getByText("Copy it now").waitFor();
  await page.goBack();
  await page.context().clearCookies();
  await page.getByText("Your session has ended").waitFor();
  assert.match(await page.locator(".token code").textContent(), /^mk_/);
  await page.getByRole("button", { name: "I have copied it" }).click();
  await logIn(page, router);
});

test("an answer that is left for a new conversation is no part of it", async () => {
  await api("POST", "/accounts/default/providers/openai", { key: GOOD_PROVIDER_KEY });
  await openPlayground(`openai/${NEVER_ENDS}`);
  await page.getByLabel("Message").fill("first");
  await page.keyboard.press("Enter");
  await page.getByRole("article", { name: "Answer" }).getByText("Noted:").waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel("Model").fill("demo/echo");
  const asked = page.waitForRequest("**/admin/v1/playground");
  await page.getByLabel("Message").fill("second");
  await page.keyboard.press("Enter");
  assert.deepEqual((await asked).postDataJSON().body.messages, [{ role: "user", content: "second" }]);
  await page.getByText("You said: second").waitFor();
  await page.getByLabel("Message").fill("third");
  const next = page.waitForRequest("**/admin/v1/playground");
  await page.locator(".turn:not([aria-busy]) .folds").waitFor();
  await page.keyboard.press("Enter");
  assert.deepEqual((await next).postDataJSON().body.messages.map(({ content }) => content).filter((text) => text !== "You said: second"), ["second", "third"]);
});

test("who logs in to another version than the page is of gets that version's page", async () => {
  await page.route("**/admin/v1/session", async (route) => {
    const answer = await (await route.fetch()).json();
    await route.fulfill({ json: { ...answer, version: "0.0.1" } });
  });
  await page.reload();
  await page.getByText("Version 0.0.1").waitFor();
  await page.unrouteAll();
  await page.getByRole("button", { name: "Log out" }).click();
  await logIn(page, router);
  await page.waitForLoadState();
  await page.getByText(/^Version (?!0\.0\.1$)/).waitFor();
});
