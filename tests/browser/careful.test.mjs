// Where a mistake would cost somebody's memories, keys or trust: many keys, late answers, a token shown once.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { eventually, launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, startRouter } from "./router.mjs";
import { snippets } from "../../src/admin/assets/snippets.js";

let router;
let browser;
let page;
let close;
const keys = {};

const api = async (method, path, body) => {
  const answer = await fetch(`${router.admin}/admin/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${router.adminToken}`, "content-type": "application/json" },
    body: body && (typeof body === "string" ? body : JSON.stringify(body)),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.text();
};
const contents = async (name) => JSON.parse(await api("GET", `/keys/${keys[name].id}/memories`)).memories.map((memory) => memory.content);
const chosen = (label) => page.getByRole("combobox", { name: label, exact: true }).evaluate((control) => control.selectedOptions[0]?.textContent);
const title = (name) => `${name} · …${keys[name].last4}`;
/** Answers to what `matches` are late. */
const delay = (matches) => page.route(matches, async (route) => {
  await new Promise((resolve) => { setTimeout(resolve, 1500); });
  await route.continue().catch(() => {});
});

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
  for (const name of ["oldest", "second", "third", "newest"]) {
    keys[name] = JSON.parse(await api("POST", "/keys", { name }));
    await api("POST", `/keys/${keys[name].id}/memories/import`, `{"content":"a memory of the ${name}"}\n`);
  }
  ({ page, close } = await openPage(browser, router, { expected: [/404.*\/admin\/v1\/keys\/key_nobody/, /ERR_FAILED.*usage\.js/, /400.*memories\/import/] }));
  await logIn(page, router);
});

after(async () => {
  await close?.();
  await browser?.close();
  await router?.stop();
});

afterEach(() => page?.unrouteAll());

test("a key further down than a list goes is the one that is shown", async () => {
  // As with more than a thousand keys: the list holds the two newest.
  await page.route(/\/admin\/v1\/keys(\?.*)?$/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "2");
    return route.request().method() === "GET" ? route.continue({ url: url.href }) : route.continue();
  });
  await page.goto(`${router.admin}/#/memory?key=${keys.oldest.id}`);
  await page.locator(".memory .text").getByText("a memory of the oldest").waitFor();
  assert.equal(await chosen("Memory key"), title("oldest"));
  await page.getByLabel("Find a key").fill("second");
  await eventually("the second key", () => page.getByLabel("Memory key").locator("option", { hasText: "second" }).count());
  assert.equal(await chosen("Memory key"), title("oldest"), "a search picks nothing by itself");
  await page.getByLabel("Memory key").selectOption({ label: title("second") });
  await page.locator(".memory .text").getByText("a memory of the second").waitFor();

  await page.goto(`${router.admin}/#/playground?key=${keys.oldest.id}`);
  await eventually("the oldest key", async () => await chosen("Memory key") === title("oldest"));
  await page.goto(`${router.admin}/#/usage?key=${keys.oldest.id}`);
  await eventually("the oldest key", async () => await chosen("Key") === title("oldest"));

  await page.goto(`${router.admin}/#/memory?key=key_nobody`);
  await page.getByText("no such key: key_nobody").waitFor();
  assert.equal(await page.getByRole("button", { name: "Delete all" }).count(), 0);
  await page.goto(`${router.admin}/#/playground?key=key_nobody`);
  await page.locator("#toasts").getByText("no such key: key_nobody").waitFor();
  assert.equal(await chosen("Memory key"), undefined);
});

test("a late answer shows nothing under another key, and deletes nothing of it", async () => {
  await visit(page, "Overview");
  await page.goto(`${router.admin}/#/memory?key=${keys.newest.id}`);
  await page.locator(".memory .text").getByText("a memory of the newest").waitFor();
  await delay((url) => url.pathname.includes(`${keys.second.id}/`));
  await page.getByLabel("Memory key").selectOption({ label: title("second") });
  const late = page.waitForResponse((answer) => answer.url().includes(`${keys.second.id}/memories`));
  await page.getByLabel("Memory key").selectOption({ label: title("third") });
  await page.locator(".memory .text").getByText("a memory of the third").waitFor();
  await (await late).finished();
  await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve, 50)); }));
  assert.equal(await page.locator(".memory .text").textContent(), "a memory of the third");
  await page.getByRole("button", { name: "Delete this memory" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Nothing remembered yet").waitFor();
  await page.unrouteAll();
  assert.deepEqual(await contents("third"), []);
  assert.deepEqual(await contents("second"), ["a memory of the second"]);
});

test("usage and the list of keys show what was asked for last", async () => {
  for (const name of ["oldest", "second"]) {
    await eventually("an answer", async () => (await fetch(`${router.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${keys[name].token}`, "content-type": "application/json", "x-memory-mode": "off" },
      body: JSON.stringify({ model: "demo/echo", messages: [{ role: "user", content: "hello" }] }),
    })).ok);
  }
  await eventually("usage", async () => JSON.parse(await api("GET", "/usage?by=key")).rows.length === 2);
  await page.goto(`${router.admin}/#/usage`);
  await page.getByRole("table", { name: "Usage by provider" }).waitFor();
  await delay((url) => url.pathname.endsWith("/usage") && url.search.includes("model"));
  await page.getByText("Model", { exact: true }).click();
  const late = page.waitForResponse((answer) => answer.url().includes("by=model"));
  await page.getByText("Key", { exact: true }).last().click();
  await page.getByRole("table", { name: "Usage by key" }).waitFor();
  await (await late).finished();
  await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve, 50)); }));
  await page.getByRole("rowheader", { name: /oldest/ }).waitFor();
  await page.unrouteAll();
  // As with very many keys: none of them stands in the list, and a table of all their rows would be long.
  await page.route(/\/admin\/v1\/(keys|usage)\?*/, async (route) => {
    const answer = await (await route.fetch()).json();
    if (answer.keys) answer.keys = [];
    if (answer.by?.join() === "key") answer.rows = Array.from({ length: 300 }, (_, at) => answer.rows[at % 2]);
    await route.fulfill({ json: answer });
  });
  await page.reload();
  await page.getByText("Key", { exact: true }).last().click();
  const rows = page.getByRole("table", { name: "Usage by key" }).getByRole("rowheader");
  await eventually("the first rows", async () => await rows.count() === 101);
  assert.match(await rows.first().textContent(), /^(oldest|second)key_/);
  await page.getByRole("button", { name: "Show all 300" }).click();
  await eventually("all rows", async () => await rows.count() === 301);
  await page.unrouteAll();

  await visit(page, "API Keys");
  await page.getByRole("rowheader", { name: /oldest/ }).waitFor();
  await delay((url) => url.search.includes("query=new"));
  const slow = page.waitForResponse((answer) => answer.url().includes("query=new"));
  await page.getByLabel("Name, id or last four").fill("new");
  await page.waitForRequest((request) => request.url().includes("query=new"));
  await page.getByLabel("Name, id or last four").fill("second");
  await page.getByRole("rowheader", { name: /oldest/ }).waitFor({ state: "detached" });
  await (await slow).finished();
  await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => setTimeout(resolve, 50)); }));
  await page.getByRole("rowheader", { name: /second/ }).waitFor();
  assert.equal(await page.getByRole("rowheader", { name: /newest/ }).count(), 0);
});

test("the focus stays with the key that was revoked or enabled", async () => {
  await page.getByLabel("Name, id or last four").fill("");
  const actions = page.getByRole("button", { name: "Actions for third" });
  const focused = () => page.evaluate(() => document.activeElement.textContent);
  for (const [item, state] of [["Revoke", "revoked"], ["Enable", "active"]]) {
    await actions.press("Enter");
    await page.getByRole("menuitem", { name: item }).press("Enter");
    if (item === "Revoke") await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).press("Enter");
    await page.getByRole("row", { name: /third/ }).getByText(state, { exact: true }).waitFor();
    await eventually("the focus", async () => await focused() === "Actions for third");
  }
});

test("keys of a state are asked of the router", async () => {
  await api("PATCH", `/keys/${keys.third.id}`, { state: "revoked" });
  await page.route(/\/admin\/v1\/keys\?/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "1");
    return route.continue({ url: url.href });
  });
  await page.getByText("Revoked", { exact: true }).click();
  await page.getByRole("rowheader", { name: /third/ }).waitFor();
  await page.getByText("Expired", { exact: true }).click();
  await page.getByText("No key matches").waitFor();
  await page.getByText("All", { exact: true }).click();
  await page.getByRole("button", { name: "Show more" }).click();
  await page.getByRole("rowheader", { name: /third/ }).waitFor();
});

test("a long list of keys grows under the reader's hand, and makes a menu when it is opened", async () => {
  const made = await Promise.all([1, 2].map((at) => api("POST", "/keys", { name: `last ${at}`, account: at === 1 ? "acme" : "default" })));
  await page.route(/\/admin\/v1\/keys\?/, (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set("limit", "1");
    return route.continue({ url: url.href });
  });
  await page.getByText("Active", { exact: true }).click();
  const rows = page.getByRole("table", { name: "Memory keys" }).getByRole("rowheader");
  await eventually("one key", async () => await rows.count() === 1);
  const more = page.getByRole("button", { name: "Show more" });
  for (let seen = 2; seen <= 5; seen += 1) {
    await more.press("Enter");
    await eventually(`${seen} keys`, async () => await rows.count() === seen);
    // With the first key of another account the table gets a column more, and is a new one.
    if (seen > 2 && await more.isVisible()) assert.equal(await page.evaluate(() => document.activeElement.textContent), "Show more");
  }
  await page.getByRole("columnheader", { name: "Account" }).waitFor();
  assert.equal(await page.locator("[role=menuitem]").count(), 0);
  await page.unrouteAll();
  for (const key of made) await api("DELETE", `/keys/${JSON.parse(key).id}?forever=true`);
  await page.getByText("All", { exact: true }).click();
  await page.getByRole("rowheader", { name: /last/ }).first().waitFor({ state: "detached" });
});

test("what was left alone in a form stays as it is", async () => {
  const odd = JSON.parse(await api("POST", "/keys", { name: "trail ", limits: { tpm: 1, rpm: 7 } }));
  // More than a script's numbers can tell apart.
  await api("PATCH", `/keys/${odd.id}`, '{"limits":{"tpm":9007199254740993}}');
  await page.reload();
  const sent = [];
  page.on("request", (request) => request.method() === "PATCH" && sent.push(request.postData()));
  const edit = async () => {
    await page.getByRole("button", { name: "Actions for trail" }).click();
    await page.getByRole("menuitem", { name: "Edit" }).click();
  };
  await edit();
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await edit();
  await page.getByLabel("Requests per minute").fill("4294967296");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("At most 4,294,967,295.").waitFor();
  await page.getByLabel("Requests per minute").fill("");
  await page.getByLabel("Requests at once").fill("3");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("3 at once").waitFor();
  assert.deepEqual(sent, ['{"limits":{"rpm":null,"concurrent":3}}']);
  assert.match(await api("GET", `/keys/${odd.id}`), /"tpm":9007199254740993/);
  await page.getByRole("button", { name: "Actions for trail" }).click();
  await page.getByRole("menuitem", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("textbox").fill("trail");
  await page.getByRole("button", { name: "Delete for good" }).click();
  await page.getByRole("rowheader", { name: /trail/ }).waitFor({ state: "detached" });
});

test("a token that is shown once is closed by its own button only", async () => {
  await visit(page, "Overview");
  await visit(page, "API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
  await page.getByText("Copy it now").waitFor();
  for (const press of ["Escape", "Escape", "Escape"]) await page.keyboard.press(press);
  await page.goBack();
  await eventually("the page before", () => page.evaluate(() => document.title.startsWith("Overview")));
  assert.match(await page.locator(".token code").textContent(), /^mk_/);
  await page.getByRole("button", { name: "I have copied it" }).click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("a file of more lines than one request takes is brought in, and a wrong line is told by its place", async () => {
  const bring = async (content) => {
    await page.getByRole("button", { name: "Import" }).click();
    await page.getByLabel("JSONL file").setInputFiles({ name: "many.jsonl", mimeType: "application/x-ndjson", buffer: Buffer.from(content) });
    await page.getByRole("dialog").getByRole("button", { name: "Import" }).click();
  };
  const many = Array.from({ length: 10_002 }, (_, at) => JSON.stringify({ content: `line ${at}`, timestamp: 1_700_000_000_000 + at }));
  await page.goto(`${router.admin}/#/memory?key=${keys.third.id}`);
  await bring(many.join("\n"));
  await page.getByText("Done: 10,002 stored, 0 known already.").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Close" }).last().click();
  await page.getByText("10.0k", { exact: true }).waitFor();
  // Whoever deletes one far down stays there.
  const entries = page.locator("li.memory");
  await page.getByRole("button", { name: "Show more" }).click();
  await eventually("two pages", async () => await entries.count() === 100);
  await entries.nth(80).getByRole("button", { name: "Delete this memory" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await eventually("the deletion", async () => await entries.count() === 99);
  assert.equal(await entries.nth(80).getByText("line 9920", { exact: true }).count(), 1);
  assert.ok(await entries.nth(80).getByRole("button").evaluate((control) => control === document.activeElement));
  // A list that was made before does not bring it back.
  let late;
  await page.route(/memories\?query=10001/, async (route) => {
    const answer = await route.fetch();
    if (!late) await new Promise((resolve) => { late = resolve; });
    await route.fulfill({ response: answer });
  });
  await page.getByLabel("Search memories").fill("10001");
  await eventually("the search", () => late);
  await entries.filter({ hasText: "line 10001" }).getByRole("button", { name: "Delete this memory" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("Nothing matches").waitFor();
  late();
  await page.getByLabel("Search memories").fill("");
  await entries.filter({ hasText: "line 10000" }).waitFor();
  assert.equal(await entries.filter({ hasText: "line 10001" }).count(), 0);
  await bring([...many.slice(0, 10_000), ...many.slice(0, 2), "no JSON"].join("\n"));
  await page.getByText("Invalid line 3: not a JSON object (counted from line 10,001; all before it are imported)", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
});

test("a sum without some prices says so", async () => {
  await api("POST", "/accounts/default/providers/openai", { key: GOOD_PROVIDER_KEY });
  for (const model of ["openai/gpt-4o", "openai/nobody-knows-its-price"]) {
    await eventually("an answer", async () => (await fetch(`${router.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${keys.oldest.token}`, "content-type": "application/json", "x-memory-mode": "off" },
      body: JSON.stringify({ model, messages: [{ role: "user", content: "hello" }] }),
    })).ok);
  }
  await eventually("usage", async () => (await api("GET", "/usage?by=model")).includes("nobody-knows"));
  await visit(page, "Usage");
  const table = page.getByRole("table", { name: /Usage by/ });
  for (const [row, cost] of [[/^openai/, /\$\d[\d.]+ \+\? \(1 request without/], [/^All/, /\$\d[\d.]+ \+\? \(1 request without/], [/^demo/, /\$0\.00$/]]) {
    assert.match(await table.getByRole("row", { name: row }).getByRole("cell").last().textContent(), cost);
  }
  await page.getByText("Model", { exact: true }).click();
  assert.match(await page.getByRole("row", { name: /^nobody-knows/ }).getByRole("cell").last().textContent(), /^– \(1 request without/);
});

test("a time of millennia is drawn where there is something, and a year on its way asks nothing", async () => {
  await page.reload();
  const asked = [];
  page.on("request", (request) => request.url().includes("/usage?") && asked.push(request.url()));
  await page.getByText("Dates", { exact: true }).click();
  await page.getByLabel("From").fill("0002-01-01");
  await page.getByLabel("Until").fill("9999-01-01");
  await page.getByLabel("From").fill("1970-01-01");
  await page.getByRole("img", { name: /1970-01-01 to 9999-01-01/ }).waitFor();
  assert.ok(await page.locator(".chart .hit").count() < 9);
  assert.ok(asked.every((url) => !url.includes("0002")));
});

test("a caller that left has no status, and a page that did not come is told of in words", async () => {
  await page.route("**/admin/v1/requests*", async (route) => {
    const answer = await (await route.fetch()).json();
    for (const request of answer.requests) Object.assign(request, { status: null, side: null });
    await route.fulfill({ json: answer });
  });
  await visit(page, "Overview");
  await page.getByText("caller left").first().waitFor();
  await page.unrouteAll();
  await page.route("**/pages/usage.js", (route) => route.abort());
  await page.reload();
  await page.getByRole("link", { name: "Usage" }).first().click();
  await page.getByText("This page's files did not come").waitFor();
});

test("code names models that the key can use", () => {
  const code = (models) => Object.fromEntries(snippets("http://127.0.0.1:1/", "mk_x", models));
  const claude = code(["claude-opus-5-5", "claude-sonnet-4-5"]);
  assert.deepEqual(Object.keys(claude), ["curl", "OpenAI, Python", "OpenAI, Node", "Anthropic, Python"]);
  assert.ok(Object.values(claude).every((text) => text.includes('"claude-sonnet-4-5"')));
  const google = code(["gemini-embedding-001", "gemini-9"]);
  assert.ok(google["Google, Python"].includes('"gemini-9"') && google.curl.includes('"gemini-9"'));
  assert.ok(code(["demo/echo", "claude-x"]).curl.includes('"claude-x"'));
  assert.ok(Object.values(code(["demo/echo"])).every((text) => text.includes('"demo/echo"')));
  assert.ok(code(["text-embedding-3-small", "gpt-4o", "gpt-5"]).curl.includes('"gpt-4o"'));
  assert.equal(Object.keys(code([])).length, 5);
  assert.ok(code(["text-embedding-3-small"]).curl.includes('"gpt-4o"'));
});
