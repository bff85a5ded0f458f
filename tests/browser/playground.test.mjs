// What providers answer when they answer oddly: floods, errors of every form, streams that break off.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { events, lines } from "../../src/admin/assets/api.js";
import { DIALECTS, errorText } from "../../src/admin/assets/dialects.js";
import { launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, startRouter } from "./router.mjs";

let router;
let browser;
let page;
let close;

const api = async (path, body) => {
  const answer = await fetch(`${router.admin}/admin/v1${path}`, { method: "POST", headers: { authorization: `Bearer ${router.adminToken}` }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
};
const chunk = (delta, finish_reason = null) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
const stream = (text) => (_, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(text);
};
/** Sends a message and waits for the end of its answer; returns the answer's element. */
const say = async (model, text, { streamed = true } = {}) => {
  const turns = await page.getByRole("article", { name: "Answer" }).count();
  await page.getByLabel("Model").fill(model);
  await page.getByLabel("Stream the answer").setChecked(streamed);
  await page.getByLabel("Message").fill(text);
  await page.keyboard.press("Enter");
  await page.locator(".turn:not(.mine):not([aria-busy])").nth(turns).locator(".folds").waitFor();
  return page.getByRole("article", { name: "Answer" }).nth(turns);
};

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
  await api("/keys", { name: "app" });
  await api("/accounts/default/providers/openai", { key: GOOD_PROVIDER_KEY });
  ({ page, close } = await openPage(browser, router, { expected: [/(4\d\d|5\d\d|ERR_INCOMPLETE_CHUNKED_ENCODING).*\/playground/] }));
  await logIn(page, router);
  await visit(page, "Playground");
  await page.getByText("Off", { exact: true }).click();
});

after(async () => {
  await close?.();
  await browser?.close();
  await router?.stop();
});

test("thousands of parts at once are written in a few steps", async () => {
  const words = Array.from({ length: 4000 }, (_, at) => `word ${at} `);
  router.provider.scripts.set("flood", stream([...words.map((content) => chunk({ content })), chunk({}, "stop"), "data: [DONE]\n\n"].join("")));
  await page.evaluate(() => {
    window.written = 0;
    new MutationObserver((all) => { window.written += all.length; }).observe(document.querySelector(".log"), { characterData: true, childList: true, subtree: true });
  });
  const answer = await say("openai/flood", "go on");
  assert.equal(await answer.locator(".text").first().textContent(), words.join(""));
  assert.equal(await answer.locator(".text").first().evaluate((place) => place.childNodes.length), 1);
  const written = await page.evaluate(() => window.written);
  assert.ok(written < 1000, `${written} changes of the page`);
  await page.getByRole("button", { name: "New conversation" }).click();
});

test("a turn that failed stays when another one follows", async () => {
  await say("mistral/some-model", "first");
  await say("demo/echo", "second");
  await page.getByRole("article", { name: "You" }).getByText("first").waitFor();
  await page.getByText("No API key configured for provider: mistral").first().waitFor();
  await page.getByText("You said: second").waitFor();
  await page.getByRole("button", { name: "New conversation" }).click();
});

test("what a provider says about its failure is shown", async () => {
  const json = (status, body) => (_, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  };
  for (const [name, script, shown] of [
    ["listed", json(400, [{ error: { code: 400, message: "API key not valid" } }]), "API key not valid"],
    ["bare", json(404, { message: "no such model" }), "no such model"],
    ["detailed", json(422, { detail: [{ loc: ["body", "model"], msg: "field required" }] }), "body.model: field required"],
    ["nested", json(400, { error: { message: { text: "who knows" } } }), '{"text":"who knows"}'],
    ["unknown", json(400, { code: 7 }), '{"code":7}'],
    ["words", json(502, "the gateway is down"), "the gateway is down"],
    ["null", stream(`data: null\n\n${chunk({ content: null })}${chunk({}, "stop")}`), "An answer without text"],
    ["parts", stream(`${chunk({ content: [{ type: "text", text: "in " }, { type: "text", text: "parts" }] })}${chunk({}, "stop")}`), "in parts"],
    ["two lines", stream(`data: {"choices":[{"delta":\ndata: {"content":"two lines"}}]}\n\n${chunk({}, "stop")}`), "two lines"],
    ["old ends", stream(`${chunk({ content: "old ends" })}${chunk({}, "stop")}`.replaceAll("\n", "\r")), "old ends"],
    ["broken line", stream(`${chunk({ content: "before " })}data: {"choices":\n\n${chunk({ content: "and after" })}${chunk({}, "stop")}`), "before and after"],
    ["broken line", stream(`data: {"choices":\n\n${chunk({}, "stop")}`), "A part of the answer cannot be read"],
    ["in the stream", stream(`${chunk({ content: "some" })}data: {"error":{"message":"overloaded"}}\n\n`), "overloaded"],
    ["cut short", stream(chunk({ content: "some" })), "The answer broke off"],
    ["cut off", (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(chunk({ content: "some" }));
      setTimeout(() => response.destroy(), 100);
    }, "The answer broke off"],
  ]) {
    router.provider.scripts.set("odd", script);
    const answer = await (await say("openai/odd", name)).textContent();
    assert.ok(answer.includes(shown), `${name}: ${answer}`);
    assert.ok(!/Unexpected|undefined|\[object|TypeError|SyntaxError|network error/.test(answer), answer);
  }
  router.provider.scripts.set("odd", json(200, { choices: [{ message: { content: [{ type: "text", text: "whole, in parts" }] } }] }));
  assert.match(await (await say("openai/odd", "whole", { streamed: false })).textContent(), /whole, in parts/);
});

test("lines and events are the same in whatever pieces they come", async () => {
  const text = "data: one\r\n\r\n: a comment\rdata:two\rdata: three\r\revent: x\ndata:  four\n\ndata: last";
  const pieces = (size) => new Response(new ReadableStream({
    start: (to) => {
      for (let at = 0; at < text.length; at += size) to.enqueue(new TextEncoder().encode(text.slice(at, at + size)));
      to.close();
    },
  }));
  const all = async (parts) => {
    const found = [];
    for await (const part of parts) found.push(part);
    return found;
  };
  for (const size of [1, 2, 3, 7, 1000]) {
    assert.deepEqual(await all(events(pieces(size))), ["one", "two\nthree", " four", "last"], `pieces of ${size}`);
    assert.equal((await all(lines(pieces(size)))).length, 10, `pieces of ${size}`);
  }
});

test("nothing that a provider may say stops a dialect", () => {
  const odd = [null, 7, "text", [], {}, { choices: null }, { choices: [null] }, { choices: [{ delta: null, message: null }] }, { content: [null, {}, { text: {} }] }, { content: 7 }, { candidates: [{ content: { parts: [null] } }] }, { type: "content_block_delta" }];
  for (const [name, dialect] of Object.entries(DIALECTS)) {
    for (const event of odd) assert.deepEqual([dialect.delta(event), dialect.text(event), dialect.ends(event)], ["", "", false], `${name} ${JSON.stringify(event)}`);
  }
  for (const event of [...odd, { type: "message_start", message: { id: "msg_1" } }, { error: null }, { error: {} }]) assert.equal(errorText(event, true), "");
  assert.equal(errorText({ error: "no", hint: "try" }, false), "no – try");
});
