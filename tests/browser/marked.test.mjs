// What the sums of the usage page say of themselves: estimates, answers that were left, models without a price.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, launch, logIn, openPage, visit } from "./browser.mjs";
import { GOOD_PROVIDER_KEY, NEVER_ENDS, startRouter } from "./router.mjs";

let router;
let browser;

before(async () => {
  [router, browser] = await Promise.all([startRouter(), launch()]);
});

after(async () => {
  await browser?.close();
  await router?.stop();
});

const admin = (method, path, body) => fetch(`${router.admin}/admin/v1${path}`, {
  method,
  headers: { authorization: `Bearer ${router.adminToken}`, "content-type": "application/json" },
  body: body && JSON.stringify(body),
});

test("a stream that was left is marked, with what is estimated of it", async () => {
  await admin("POST", "/accounts/default/providers/openai", { key: GOOD_PROVIDER_KEY });
  const { token } = await (await admin("POST", "/keys", { name: "marked" })).json();
  const ask = (model, signal) => fetch(`${router.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Tell me all about liquorice" }] }),
    signal,
  });
  const leave = new AbortController();
  const left = await ask(NEVER_ENDS, leave.signal);
  await left.body.getReader().read();
  leave.abort();
  await (await ask("gpt-4o")).text();
  await eventually("both are counted", async () => {
    const { total } = await (await admin("GET", "/usage")).json();
    return total.requests === 2;
  });

  const { page, close } = await openPage(browser, router);
  await logIn(page, router);
  const told = page.getByRole("row").filter({ hasText: NEVER_ENDS });
  await told.getByText(/^~\d+ \/ \d+/).waitFor();
  await visit(page, "Usage");
  await page.getByText("Model", { exact: true }).click();
  const row = (name) => page.getByRole("row").filter({ has: page.getByRole("rowheader", { name, exact: true }) });
  const cells = async (name) => (await row(name).getByRole("cell").allInnerTexts()).map((text) => text.replace(/\s+/g, " "));
  const [, errors, tokensIn, , tokensOut, , , , cost] = await cells(NEVER_ENDS);
  assert.equal(errors, "0 1 aborted");
  assert.match(tokensIn, /^~\d+ \(1 request estimated\)$/);
  assert.match(tokensOut, /^~\d+ \(1 request estimated\)$/);
  assert.match(cost, /1 request without a known price/);
  const whole = await cells("gpt-4o");
  assert.deepEqual([whole[1], whole[2], whole[4]], ["0", "21", "9"]);
  assert.match((await cells("All"))[2], /^~\d+ /);
  await close();
});
