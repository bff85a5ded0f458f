// Where something goes wrong on the way: refusals inside a dialog, rows that are gone, files and times that are odd, two tabs.
import assert from "node:assert/strict";
import { rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { eventually, launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, startRouter } from "./router.mjs";

let router;
let browser;
let page;
let close;
const keys = {};

const api = async (method, path, body) => {
  const answer = await fetch(`${router.admin}/admin/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${router.adminToken}` },
    body: body && (typeof body === "string" ? body : JSON.stringify(body)),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return JSON.parse((await answer.text()).trim().split("\n").at(-1));
};
const dialog = () => page.getByRole("dialog");
const menuOf = async (name, item) => {
  await page.getByRole("button", { name: `Actions for ${name}` }).click();
  await page.getByRole("menuitem", { name: item }).click();
};
/** Answers to what `matches` come as `change` leaves them; who is not waited for any more gets none. */
const changed = (matches, change) => page.route(matches, async (route) => {
  try {
    const answer = await (await route.fetch()).json();
    change(answer);
    await route.fulfill({ json: answer });
  } catch {
    // The page or the route is gone.
  }
});
/** Whether what is announced and what lies in the corner are where a modal dialog lets them be. */
const noticesIn = (selector) => page.evaluate((wanted) => ["toasts", "said"].every((id) => document.getElementById(id).parentNode.matches(wanted)), selector);

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
  for (const name of ["first", "second", "un\u200bseen\u200e", "\u200b\u200b"]) keys[name] = await api("POST", "/keys", { name });
  ({ page, close } = await openPage(browser, router, { expected: [/(40[0134]|409|500) \(/, /ERR_UPLOAD_FILE_CHANGED/] }));
  await logIn(page, router);
});

after(async () => {
  await close?.();
  await browser?.close();
  await router?.stop();
});

afterEach(async () => {
  await page?.unrouteAll();
  // What a test that failed left open must not stop the others.
  await page?.evaluate(() => document.querySelectorAll("dialog").forEach((open) => open.close()));
});

test("a refusal is said inside the dialog, at its field where it has one, and loses no input", async () => {
  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  await eventually("notices where they can be read", () => noticesIn("dialog[open]"));
  await dialog().getByLabel("Name").fill("kept");
  await dialog().getByRole("combobox", { name: "Account" }).fill("no spaces, please");
  await dialog().getByRole("button", { name: "Create key" }).click();
  await dialog().getByRole("alert").getByText(/^account: 1 to 128/).waitFor();
  assert.equal(await dialog().getByRole("combobox", { name: "Account" }).getAttribute("aria-invalid"), "true");
  await dialog().getByRole("combobox", { name: "Account" }).fill("acme");
  await page.route(/\/admin\/v1\/keys$/, (route) => route.fulfill({ status: 500, json: { error: "the disk is full", hint: "Make room" } }));
  await dialog().getByRole("button", { name: "Create key" }).click();
  await dialog().getByRole("alert").getByText("the disk is full").waitFor();
  assert.equal(await dialog().getByRole("combobox", { name: "Account" }).getAttribute("aria-invalid"), null, "what was wrong before is right now");
  assert.equal(await dialog().getByLabel("Name").inputValue(), "kept");
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
  await eventually("notices where they can be read", () => noticesIn("body"));
});

test("a notice above a dialog can be put away without it", async () => {
  await page.evaluate(async () => (await import("./parts.js")).toast("from before", { bad: true }));
  await page.getByRole("button", { name: "Create key" }).first().click();
  await dialog().getByLabel("Name").fill("kept");
  await page.getByRole("button", { name: "Dismiss" }).click();
  await page.getByText("from before").waitFor({ state: "detached" });
  assert.equal(await dialog().getByLabel("Name").inputValue(), "kept");
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
});

test("a press on a dialog's own scrollbar does not close it, one beside it does", async () => {
  await page.setViewportSize({ width: 1024, height: 420 });
  await page.getByRole("button", { name: "Create key" }).first().click();
  const { x, y, width, height } = await dialog().boundingBox();
  // Headless, a scrollbar takes no room: the press is made as a browser tells of it.
  const press = (at) => dialog().evaluate((box, [clientX, clientY]) => box.dispatchEvent(new MouseEvent("mousedown", { clientX, clientY, bubbles: true, detail: 1 })), at);
  await press([x + width - 4, y + height / 2]);
  assert.ok(await dialog().isVisible());
  await press([x - 4, y + height / 2]);
  await dialog().waitFor({ state: "detached" });
  await page.setViewportSize({ width: 1440, height: 900 });
});

test("what was corrected is red no more", async () => {
  await page.getByRole("button", { name: "Create key" }).first().click();
  const [one, other] = [dialog().getByLabel("Requests per minute"), dialog().getByLabel("Requests at once")];
  await one.fill("many");
  await dialog().getByRole("button", { name: "Create key" }).click();
  await dialog().getByText("A whole number above 0").waitFor();
  await one.fill("");
  await other.fill("few");
  await dialog().getByRole("button", { name: "Create key" }).click();
  await eventually("the other complaint", async () => await other.getAttribute("aria-invalid") === "true");
  assert.equal(await one.getAttribute("aria-invalid"), null);
  await page.keyboard.press("Escape");
  await dialog().waitFor({ state: "detached" });
});

test("a name is typed as it is seen", async () => {
  await menuOf("un\u200bseen", "Delete");
  assert.equal(await dialog().locator("code").last().textContent(), "unseen");
  await dialog().getByRole("textbox").fill("unseen");
  await dialog().getByRole("button", { name: "Delete for good" }).click();
  await dialog().waitFor({ state: "detached" });
  const nothing = keys["\u200b\u200b"];
  await page.locator("tr").filter({ hasText: nothing.id }).getByRole("button").click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await dialog().getByRole("textbox").fill(nothing.last4);
  await dialog().getByRole("button", { name: "Delete for good" }).click();
  await page.locator("tr").filter({ hasText: nothing.id }).waitFor({ state: "detached" });
});

test("rows that are gone already leave with what was to be done to them", async () => {
  for (const item of ["Edit", "Revoke"]) {
    const gone = await api("POST", "/keys", { name: `gone ${item}` });
    await visit(page, "Overview");
    await visit(page, "API Keys");
    await page.getByRole("button", { name: `Actions for gone ${item}` }).click();
    await api("DELETE", `/keys/${gone.id}?forever=true`);
    await page.getByRole("menuitem", { name: item }).click();
    if (item === "Edit") await dialog().getByLabel("Name").fill("another");
    await dialog().getByRole("button", { name: item === "Edit" ? "Save" : "Revoke" }).click();
    await page.locator("#toasts").getByText(`no such key: ${gone.id}`).waitFor();
    await page.getByRole("rowheader", { name: gone.id }).waitFor({ state: "detached" });
    await dialog().waitFor({ state: "detached" });
  }
});

test("a menu does not stay behind when the page moves", async () => {
  for (const move of [() => page.setViewportSize({ width: 1000, height: 500 }), () => page.evaluate(() => { document.body.style.minHeight = "3000px"; window.scrollTo(0, 100); })]) {
    await page.getByRole("button", { name: "Actions for first" }).click();
    await page.getByRole("menuitem", { name: "Edit" }).waitFor();
    await move();
    await page.getByRole("menuitem", { name: "Edit" }).waitFor({ state: "hidden" });
  }
  await page.evaluate(() => { document.body.style.minHeight = ""; });
  await page.setViewportSize({ width: 1440, height: 900 });
});

test("what is chosen stands in the address: loaded anew, a page shows the same", async () => {
  await page.goto(`${router.admin}/#/memory?key=${keys.first.id}`);
  await page.getByLabel("Memory key").selectOption(keys.second.id);
  await page.reload();
  await eventually("the same key", () => page.getByLabel("Memory key").inputValue().then((id) => id === keys.second.id, () => false));
  await page.goto(`${router.admin}/#/usage?key=${keys.first.id}`);
  await eventually("the key", () => page.getByRole("combobox", { name: "Key", exact: true }).inputValue().then((id) => id === keys.first.id, () => false));
  await page.getByRole("combobox", { name: "Key", exact: true }).selectOption("");
  await eventually("the address", () => page.evaluate(() => location.hash === "#/usage"));
  await page.goto(`${router.admin}/#/playground?key=${keys.first.id}`);
  await eventually("the key", () => page.getByLabel("Memory key").inputValue().then((id) => id === keys.first.id, () => false));
  await page.getByLabel("Memory key").selectOption(keys.second.id);
  await eventually("the address", () => page.evaluate((hash) => location.hash === hash, `#/playground?key=${keys.second.id}`));
});

test("what is deleted and exported follows the chosen session, and what is left out is said", async () => {
  const content = (at) => ({ content: `zebra number ${at}`, ...(at < 3 && { session_id: "zoo" }) });
  await api("POST", `/keys/${keys.first.id}/memories/import`, Array.from({ length: 70 }, (_, at) => JSON.stringify(content(at))).join("\n"));
  await changed(/\/sessions$/, (answer) => { answer.left_out = 7; });
  await page.goto(`${router.admin}/#/memory?key=${keys.first.id}`);
  await page.getByText("7 older ones left out").waitFor({ state: "attached" });
  await page.getByLabel("Search memories").fill("zebra");
  await page.getByText("The best 50 are shown.").waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await eventually("all of them", async () => await page.locator("li.memory").count() === 70);
  await page.getByText("The best 50 are shown.").waitFor({ state: "detached" });
  await page.getByRole("combobox", { name: "Session" }).selectOption("zoo");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export session" }).click()]);
  assert.match(download.suggestedFilename(), /-zoo\.jsonl$/);
  await page.getByRole("button", { name: "Delete session" }).click();
  await dialog().getByRole("textbox").fill("delete");
  await dialog().getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete all" }).waitFor();
  assert.equal((await api("GET", `/keys/${keys.first.id}/memories`)).stats.memories, 67);
});

test("times in seconds are brought in only by who wants them, and a file that changed is told of", async () => {
  await page.goto(`${router.admin}/#/memory?key=${keys.second.id}`);
  await page.getByRole("button", { name: "Import" }).click();
  const choose = (lines) => page.getByLabel("JSONL file").setInputFiles({ name: "m.jsonl", mimeType: "text/plain", buffer: Buffer.from(lines) });
  const go = (name) => dialog().getByRole("button", { name, exact: true }).click();
  await choose('{"content":"late","timestamp":100000000000000}\n');
  await go("Import");
  await dialog().getByText("Line 1: its timestamp 100000000000000 is of 5138: it has not come yet. Times are in milliseconds").waitFor();
  await choose('{"content":"one","timestamp":1700000000000}\n{"content":"two","timestamp":1700000000}\n');
  await go("Import");
  await dialog().getByText("Line 2: its timestamp 1700000000 is of 1970: it looks like seconds. Times are in milliseconds").waitFor();
  assert.equal((await api("GET", `/keys/${keys.second.id}/memories`)).stats.memories, 0);
  await go("Import anyway");
  await dialog().getByText("Done: 2 stored").waitFor();
  await dialog().getByRole("button", { name: "Close" }).last().click();

  const file = join(tmpdir(), `memoryrouter-changed-${process.pid}.jsonl`);
  await writeFile(file, '{"content":"before"}\n');
  await page.getByRole("button", { name: "Import" }).click();
  await page.getByLabel("JSONL file").setInputFiles(file);
  // A browser notes a file's time and size when it gets to it, which may be after the change: asked for them, it has them.
  const noted = await page.getByLabel("JSONL file").evaluate(({ files: [file] }) => [file.lastModified > 0, file.size]);
  assert.deepEqual(noted, [true, 21]);
  await writeFile(file, '{"content":"after"}\n');
  await utimes(file, new Date(), new Date(Date.now() + 60_000));
  await go("Import");
  await dialog().getByText("The file has changed: choose it again").waitFor();
  await page.keyboard.press("Escape");
  await rm(file);
});

test("a new account is judged before a secret is pasted, and listed once", async () => {
  await api("POST", "/accounts/acme/providers/openai", { key: GOOD_PROVIDER_KEY });
  await visit(page, "Settings");
  const account = page.getByLabel("Account", { exact: true });
  const options = () => account.locator("option").allTextContents();
  await eventually("the accounts", async () => (await options()).includes("acme"));
  await account.selectOption("acme");
  await page.getByText("…1234", { exact: true }).waitFor();
  await account.selectOption({ label: "New account…" });
  await dialog().getByRole("button", { name: "Cancel" }).click();
  await dialog().waitFor({ state: "detached" });
  await eventually("the account before: a choice that was left changes nothing", async () => await account.inputValue() === "acme");
  await account.selectOption({ label: "New account…" });
  await dialog().getByLabel("Name").fill("a b");
  await dialog().getByRole("button", { name: "Go on" }).click();
  await dialog().getByText("1 to 128 of A-Z a-z 0-9").waitFor();
  await dialog().getByLabel("Name").fill("acme");
  await dialog().getByRole("button", { name: "Go on" }).click();
  await dialog().waitFor({ state: "detached" });
  assert.equal((await options()).filter((name) => name === "acme").length, 1);
  await account.selectOption({ label: "New account…" });
  await dialog().getByLabel("Name").fill("n".repeat(128));
  await dialog().getByRole("button", { name: "Go on" }).click();
  await page.getByText("No provider keys in this account").waitFor();
  await eventually("the address", () => page.evaluate((hash) => location.hash === hash, `#/settings?account=${"n".repeat(128)}`));
  await account.selectOption("acme");
  await page.getByRole("button", { name: "Add another" }).click();
  await dialog().getByLabel("Provider key").fill(GOOD_PROVIDER_KEY);
  await dialog().getByRole("button", { name: "Add key" }).click();
  await dialog().getByText("this key is stored already. Its id is 1").waitFor();
  await page.keyboard.press("Escape");
});

test("a short key has a name, a refusal is told once, and a model's name turns nothing around", async () => {
  await api("POST", "/accounts/short/providers/openai", { key: "short" });
  await page.goto(`${router.admin}/#/settings?account=short`);
  await page.getByRole("button", { name: "Test the short openai key 1", exact: true }).waitFor();
  await changed(/\/admin\/v1\/(overview|requests|reload)/, (answer) => {
    if (answer.snapshot) answer.snapshot.last_refusal = "key snapshot refused: damaged";
    if (answer.requests) answer.requests = [{ route: "/v1/x", id: "1", at_ms: 1, status: 200, model: "gpt\u202e4", key: null }];
  });
  await visit(page, "Overview");
  await page.getByText("The key snapshot was refused: damaged.").waitFor();
  await page.locator("bdi").getByText("gpt\u202e4").waitFor();
  await page.getByText("Refused files", { exact: true }).waitFor();
  await visit(page, "Settings");
  await page.getByText("Refused files", { exact: true }).waitFor();
  await page.getByText("damaged", { exact: true }).waitFor();
});

test("headings step down one at a time", async () => {
  await page.goto(`${router.admin}/#/memory?key=key_nobody`);
  await page.getByText("no such key: key_nobody").waitFor();
  const levels = await page.getByRole("heading").evaluateAll((all) => all.map((one) => Number(one.tagName[1])));
  assert.ok(levels.every((level, at) => at === 0 || level - levels[at - 1] <= 1), levels.join());
});

test("who logs out in one tab is out in all of them", async () => {
  await visit(page, "API Keys");
  await page.getByRole("rowheader", { name: "first" }).waitFor();
  const other = await page.context().newPage();
  await other.goto(router.admin);
  await other.getByRole("button", { name: "Log out" }).click();
  await page.getByText("You logged out in another tab.").waitFor();
  assert.ok(!(await page.content()).includes(keys.first.id));
  await logIn(other, router);
  await other.close();
  await page.getByRole("rowheader", { name: "first" }).waitFor();
});
