// The frame: who is logged in, which page the address names, the navigation around it.

import { ApiError, currentSession, logOut, session } from "./api.js";
import { el, icon, replace } from "./dom.js";
import { logInPage } from "./pages/login.js";
import { button, failure, say } from "./parts.js";

/** Every page, in the order of the navigation. Each module exports `page({ query, signal, go, note })`, which returns its content. */
const PAGES = [
  ["overview", "Overview", () => import("./pages/overview.js")],
  ["keys", "API Keys", () => import("./pages/keys.js")],
  ["memory", "Memory", () => import("./pages/memory.js")],
  ["playground", "Playground", () => import("./pages/playground.js")],
  ["usage", "Usage", () => import("./pages/usage.js")],
  ["settings", "Settings", () => import("./pages/settings.js")],
];

const app = document.getElementById("app");
let frame = null;
/** The other tabs of this dashboard. */
const others = window.BroadcastChannel && new BroadcastChannel("session");
/** The router's version when these files came from it. */
let version = null;
/** Ends what the page on show has running. */
let leaving = new AbortController();

/** `#/memory?key=…` → the page's name and its query. */
function address() {
  const [name, search] = location.hash.replace(/^#\/?/, "").split("?");
  return { name: name || "overview", query: new URLSearchParams(search) };
}

function hashOf(name, query) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString();
  return `#/${name}${search && `?${search}`}`;
}

function go(name, query = {}) {
  location.hash = hashOf(name, query);
}

/** Writes down in the address what was chosen on a page: loaded anew, it shows the same. */
function note(name, query) {
  if (frame && address().name === name) history.replaceState(null, "", hashOf(name, query));
}

/** Without those that show something only once: their own buttons close them, whatever happens behind them. */
function closeDialogs() {
  document.querySelectorAll("dialog:not([data-firm])").forEach((open) => open.close());
}

async function showPage() {
  if (!frame) return;
  const { name, query } = address();
  const found = PAGES.find(([id]) => id === name) ?? PAGES[0];
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  for (const tab of frame.tabs) {
    if (tab.dataset.page === found[0]) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${found[1]} · MemoryRouter`;
  closeDialogs();
  try {
    const { page } = await found[2]().catch(() => {
      throw new ApiError(0, "This page's files did not come", "The router may be restarting, or another version of it runs now.");
    });
    if (signal.aborted) return;
    replace(frame.main, el("div", { class: "page" }, page({ query, signal, go, note })));
  } catch (error) {
    if (signal.aborted) return;
    replace(frame.main, failure(error, () => location.reload()));
  }
  window.scrollTo(0, 0);
  if (frame.moved) frame.main.querySelector("h1")?.focus();
  frame.moved = true;
}

function buildFrame() {
  const tabs = PAGES.map(([id, title]) => el("a", { href: `#/${id}`, "data-page": id }, icon(id), el("span", {}, title)));
  const main = el("main", { id: "main", tabindex: "-1" });
  const leave = button("Log out", {
    icon: "leave",
    kind: "quiet",
    hideLabel: true,
    onclick: async () => {
      await logOut();
      others?.postMessage("ended");
      showGate();
    },
  });
  const skip = el("a", {
    class: "skip",
    href: "#main",
    onclick: (event) => {
      event.preventDefault();
      main.focus();
    },
  }, "Skip to content");
  replace(app, skip, el(
    "div",
    { class: "frame" },
    el(
      "header",
      { class: "side" },
      el("a", { class: "brand", href: "#/overview" }, el("img", { src: "icon.svg", alt: "" }), "MemoryRouter"),
      el("nav", { class: "tabs-main", "aria-label": "Pages" }, tabs),
      el("div", { class: "side-end" }, el("div", { class: "side-tools" }, themeButton(), leave), el("small", { class: "faint" }, `Version ${version}`)),
    ),
    main,
  ));
  frame = { main, tabs, moved: false };
}

/** Light, dark, or as the system does. */
function themeButton() {
  const root = document.documentElement;
  const order = ["system", "light", "dark"];
  const pictures = { system: "system", light: "sun", dark: "moon" };
  const made = button("Theme", { kind: "quiet", hideLabel: true });
  const label = () => {
    const now = root.dataset.theme ?? "system";
    made.title = `Theme: ${now}`;
    replace(made, icon(pictures[now]), el("span", { class: "unseen" }, `Theme: ${now}`));
    return now;
  };
  made.addEventListener("click", () => {
    const next = order[(order.indexOf(label()) + 1) % order.length];
    try {
      if (next === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", next);
    } catch {
      // Then it holds for this page only.
    }
    if (next === "system") delete root.dataset.theme;
    else root.dataset.theme = next;
    label();
    say(`Theme: ${next}`);
  });
  label();
  return made;
}

function showGate(reason) {
  leaving.abort();
  frame = null;
  window.dispatchEvent(new Event("loggedout"));
  closeDialogs();
  document.title = "Log in · MemoryRouter";
  replace(app, logInPage({
    reason,
    done: (state) => {
      others?.postMessage("began");
      enter(state);
    },
  }));
  app.querySelector("input")?.focus();
}

function enter(state) {
  // Pages of one version do not fit the files of another.
  if (state.version !== version) {
    location.reload();
    return;
  }
  buildFrame();
  showPage();
}

/** What another tab logs out of or in to, this one does too: they have one session. */
others?.addEventListener("message", async ({ data }) => {
  if (data === "ended" && frame) showGate("You logged out in another tab.");
  if (data !== "began" || frame) return;
  const state = await currentSession().catch(() => null);
  if (state?.authenticated && !frame) enter(state);
});
session.onEnd = () => frame && showGate("Your session has ended. Log in again.");
window.addEventListener("hashchange", showPage);

async function start() {
  try {
    const state = await currentSession();
    version = state.version;
    if (state.authenticated) enter(state);
    else showGate();
  } catch (error) {
    replace(app, el("main", { class: "gate" }, failure(error, start)));
  }
}

start();
