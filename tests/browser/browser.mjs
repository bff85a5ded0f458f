// Debian's Chromium, and what holds on every page of every test: no error in the console, no request to another host.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];

export function launch() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
}

/** A page of a fresh profile. `expected` are console messages that a test provokes. */
export async function openPage(browser, router, { width = 1440, height = 900, colorScheme = "light", expected = [] } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce", acceptDownloads: true });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const wrong = [];
  page.on("console", (message) => {
    const text = `${message.text()} ${message.location().url}`;
    if (["error", "warning"].includes(message.type()) && !expected.some((one) => one.test(text))) wrong.push(text);
  });
  page.on("pageerror", (error) => wrong.push(error.stack));
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!["data:", "blob:"].includes(protocol) && origin !== router.admin) wrong.push(`a request to ${request.url()}`);
  });
  page.on("dialog", (dialog) => wrong.push(`a script ran: ${dialog.message()}`));
  await page.goto(router.admin);
  return {
    page,
    close: async () => {
      await context.close();
      assert.deepEqual(wrong, []);
    },
  };
}

export async function logIn(page, router) {
  await page.getByLabel("Admin token").fill(router.adminToken);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("navigation", { name: "Pages" }).waitFor();
}

/** Goes to a page by its tab. */
export async function visit(page, title) {
  await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: title }).click();
  await page.getByRole("heading", { name: title, level: 1 }).waitFor();
}

/** Asks again until it holds. */
export async function eventually(what, ask, milliseconds = 20_000) {
  const end = Date.now() + milliseconds;
  for (;;) {
    const got = await ask();
    if (got) return got;
    assert.ok(Date.now() < end, `${what} did not happen in time`);
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
}
