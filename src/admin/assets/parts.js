// What pages are made of: panels, buttons, fields, tables, the states between asking and showing.

import { add, el, icon, newId, replace } from "./dom.js";
import { whole } from "./format.js";

/** `button("Save", { icon, kind: "primary", onclick })`; while a promise of `onclick` runs, it is busy. */
export function button(label, { icon: picture, kind = "", onclick, hideLabel, ...rest } = {}) {
  const made = el(
    "button",
    { type: "button", class: `button ${kind}${hideLabel ? " square" : ""}`, title: hideLabel ? label : undefined, ...rest },
    picture && icon(picture),
    hideLabel ? el("span", { class: "unseen" }, label) : label,
  );
  if (onclick) made.addEventListener("click", (event) => busy(made, () => onclick(event)));
  return made;
}

/** Gives a button another word. */
export function rename(control, label) {
  control.lastChild.textContent = label;
}

/** Runs work that shows itself, as a dialog does; a failure is said in a toast. */
export function start(work) {
  return () => {
    work().catch((error) => error.name !== "AbortError" && toast(error.message, { bad: true, more: error.hint }));
  };
}

/** Runs work while the button shows that it does; a failure is said in a toast. */
export async function busy(control, work) {
  if (control.getAttribute("aria-busy") === "true") return;
  const running = work();
  if (!(running instanceof Promise)) return;
  control.setAttribute("aria-busy", "true");
  try {
    await running;
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message, { bad: true, more: error.hint });
  } finally {
    control.removeAttribute("aria-busy");
  }
}

export function link(label, href, { icon: picture, kind = "" } = {}) {
  return el("a", { class: `button ${kind}`, href }, picture && icon(picture), label);
}

export function pageHead(title, { about, tools = [] } = {}) {
  return el(
    "header",
    { class: "page-head" },
    el("div", {}, el("h1", { tabindex: "-1" }, title), about && el("p", {}, about)),
    el("div", { class: "row" }, tools),
  );
}

export function panel(title, content, { tools, level = "h2", padded = true } = {}) {
  const id = newId("panel");
  return el(
    "section",
    { class: "panel", "aria-labelledby": id },
    el("div", { class: "panel-head" }, el(level, { id }, title), tools && el("div", { class: "row" }, tools)),
    padded ? el("div", { class: "panel-body" }, content) : content,
  );
}

export function badge(text, kind = "", dot = false) {
  return el("span", { class: `badge ${kind}${dot ? " dot" : ""}` }, text);
}

/** A labelled control; `note` explains, `wrong` is shown by `complain`. */
export function field(label, control, { note, whole, kind = "" } = {}) {
  control.id ||= newId("field");
  const noteId = note && newId("note");
  if (noteId) control.setAttribute("aria-describedby", noteId);
  return el(
    "div",
    { class: `field ${whole ? "whole" : kind}` },
    el("label", { for: control.id }, label),
    control,
    note && el("span", { class: "note", id: noteId }, note),
  );
}

/** Says below a control what is wrong with it, or takes that away. */
export function complain(control, message) {
  const box = control.closest(".field");
  box.querySelector(".wrong")?.remove();
  control.removeAttribute("aria-invalid");
  control.removeAttribute("aria-errormessage");
  if (!message) return;
  control.closest("details")?.setAttribute("open", "");
  const id = newId("wrong");
  control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-errormessage", id);
  box.append(el("span", { class: "wrong", id, role: "alert" }, message));
  control.focus();
}

export function input(attributes = {}) {
  return el("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
}

/** `options` are texts or [value, text] pairs. */
export function select(options, value, attributes = {}) {
  const made = el("select", attributes);
  setOptions(made, options, value);
  return made;
}

export function setOptions(control, options, value) {
  replace(control, options.map((option) => {
    const [own, text] = Array.isArray(option) ? option : [option, option];
    return el("option", { value: own }, text);
  }));
  if (value !== undefined) control.value = value;
}

export function tick(label, { checked, note, ...rest } = {}) {
  const control = el("input", { type: "checkbox", id: newId("tick"), checked: Boolean(checked), ...rest });
  const words = el("label", { for: control.id }, label, note && el("span", { class: "note" }, note));
  return { control, element: el("div", { class: "tick" }, control, words) };
}

/** One of a few values as a row of buttons; `onpick` hears the new value. */
export function choice(label, options, value, onpick) {
  const name = newId("choice");
  const labels = options.map(([own, text]) => el(
    "label",
    {},
    el("input", { type: "radio", name, value: own, checked: own === value, onchange: () => onpick(own) }),
    text,
  ));
  return el("fieldset", { class: "choice" }, el("legend", { class: "unseen" }, label), labels);
}

export function searchField(label, oninput, value = "") {
  const control = input({ type: "search", placeholder: label, "aria-label": label, value });
  control.addEventListener("input", later(() => oninput(control.value.trim()), 200));
  return el("div", { class: "search", role: "search" }, icon("search"), control);
}

/** Runs only after calls have paused. */
export function later(work, pause) {
  let timer;
  return (...all) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...all), pause);
  };
}

/**
 * A table. A column is `{ name, cell(row), number?, head?, hideName?, kind? }`; `head` marks the column that names the
 * row, `kind: "extra"` is left out where it is narrow. There, rows become cards unless `cards` is false, so roles are
 * said in so many words: another display takes them from a table.
 */
export function table(caption, columns, rows, { foot, cards = true } = {}) {
  const cell = (column, content, name) => el(
    column.head ? "th" : "td",
    {
      class: [column.number && "number", column.kind].filter(Boolean).join(" ") || undefined,
      scope: column.head ? "row" : undefined,
      role: column.head ? "rowheader" : "cell",
      "data-label": column.head || column.hideName || !name ? undefined : name,
    },
    column.head ? content : el("div", {}, content),
  );
  const line = (source) => el("tr", { role: "row" }, columns.map((column) => cell(column, source(column), column.name)));
  return el(
    "div",
    { class: "table-box" },
    el(
      "table",
      { class: cards ? "cards" : undefined, role: "table" },
      el("caption", { class: "unseen" }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns.map((column) => el(
        "th",
        { scope: "col", role: "columnheader", class: [column.number && "number", column.kind].filter(Boolean).join(" ") || undefined },
        column.hideName ? el("span", { class: "unseen" }, column.name) : column.name,
      )))),
      el("tbody", { role: "rowgroup" }, rows.map((row) => line((column) => column.cell(row)))),
      foot && el("tfoot", { role: "rowgroup" }, line((column) => foot[column.name] ?? "")),
    ),
  );
}

/** Names and values. */
export function facts(pairs, kind = "") {
  return el("dl", { class: `facts ${kind}` }, pairs.filter(Boolean).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

export function empty(picture, title, text, action) {
  return el("div", { class: "empty" }, icon(picture), el("p", { class: "title" }, title), text && el("p", {}, text), action);
}

export function loading(label = "Loading") {
  return el("div", { class: "loading" }, el("span", { class: "unseen", role: "status" }, label), el("i"), el("i"), el("i"));
}

export function notice(kind, picture, ...content) {
  return el("div", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : undefined }, icon(picture), el("div", {}, content));
}

export function failure(error, again) {
  return el(
    "div",
    { class: "empty", role: "alert" },
    icon("alert"),
    el("p", { class: "title" }, error.message),
    error.hint && el("p", {}, error.hint),
    again && button("Try again", { icon: "reload", onclick: again }),
  );
}

/** How often something was shown at a place: an answer that was overtaken there shows nothing. */
const turns = new WeakMap();

/**
 * Shows `loading`, then what `work` returns, or why it failed, with a way to try again. Whoever asked last is shown,
 * whichever answer comes last; `work` is given a function that tells whether that is still itself. A focus inside stays
 * on what has the same `data-stay` in the new content.
 */
export async function show(place, work) {
  const turn = (turns.get(place) ?? 0) + 1;
  turns.set(place, turn);
  const latest = () => turns.get(place) === turn;
  const stay = place.contains(document.activeElement) ? document.activeElement.dataset.stay : undefined;
  const slow = setTimeout(() => latest() && replace(place, loading()), place.childElementCount ? 400 : 0);
  try {
    const content = await work(latest);
    if (!latest()) return;
    replace(place, content);
    if (stay !== undefined && document.activeElement === document.body) refocus(place, stay);
  } catch (error) {
    if (latest() && error.name !== "AbortError") replace(place, failure(error, () => show(place, work)));
  } finally {
    clearTimeout(slow);
  }
}

/** What had the focus may be gone with what was done to it: then the page's heading has it, not nothing. */
function refocus(place, stay) {
  const same = [...place.querySelectorAll("[data-stay]")].find((one) => one.dataset.stay === stay);
  (same ?? document.querySelector("h1"))?.focus();
}

/** Characters and lines of a longer text that are shown first. */
const BEGINNING = { length: 2000, lines: 30 };

/** What somebody said, as it was written. Of a very long text the beginning, and a button that shows the rest. */
export function saidText(text) {
  const place = el("p", { class: "text", dir: "auto" }, text);
  if (text.length <= 2 * BEGINNING.length && text.split("\n").length <= 2 * BEGINNING.lines) return place;
  // Not half of a character.
  const start = text.slice(0, BEGINNING.length).replace(/[\uD800-\uDBFF]$/, "");
  const beginning = `${start.split("\n").slice(0, BEGINNING.lines).join("\n")}…`;
  const toggle = button("", { kind: "small", "aria-expanded": "false" });
  const draw = (all) => {
    place.textContent = all ? text : beginning;
    toggle.textContent = all ? "Show less" : `Show all ${whole(text.length)} characters`;
    toggle.setAttribute("aria-expanded", String(all));
  };
  toggle.addEventListener("click", () => draw(toggle.getAttribute("aria-expanded") === "false"));
  draw(false);
  return el("div", { class: "long" }, place, toggle);
}

/** Puts what is said into the dialog on top: all that lies outside it cannot be reached, and is not read out. */
export function gatherNotices() {
  const top = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  for (const id of ["toasts", "said"]) {
    const place = document.getElementById(id);
    if (place.parentNode === top) continue;
    const shown = place.matches(":popover-open");
    top.append(place);
    if (shown) place.showPopover();
  }
}

/** Says something to a screen reader only. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 50);
}

/** A notice in the corner. What went wrong stays longer. */
export function toast(text, { bad, more } = {}) {
  const place = document.getElementById("toasts");
  const close = button("Dismiss", { icon: "close", kind: "quiet small", hideLabel: true, onclick: () => gone() });
  const made = el(
    "div",
    { class: `toast${bad ? " bad" : ""}`, role: bad ? "alert" : "status" },
    el("div", {}, text, more && el("div", { class: "small soft" }, more)),
    close,
  );
  const gone = () => {
    made.remove();
    if (!place.childElementCount) place.hidePopover?.();
  };
  gatherNotices();
  // Shown anew, so that it lies above whatever opened meanwhile.
  if (place.matches(":popover-open")) place.hidePopover();
  place.showPopover?.();
  add(place, made);
  while (place.childElementCount > 4) place.firstElementChild.remove();
  setTimeout(gone, bad ? 9000 : 4500);
}

/** A button that copies a text and says so. */
export function copyButton(text, { label = "Copy", hideLabel } = {}) {
  const made = button(label, { icon: "copy", kind: "small", hideLabel });
  const words = (said) => (hideLabel ? el("span", { class: "unseen" }, said) : said);
  made.addEventListener("click", async () => {
    const done = await copy(typeof text === "function" ? text() : text);
    replace(made, icon(done ? "check" : "alert"), words(done ? "Copied" : "Select and copy"));
    say(done ? "Copied" : "Copying is not allowed here");
    setTimeout(() => replace(made, icon("copy"), words(label)), 2000);
  });
  return made;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without HTTPS, away from loopback, there is no clipboard API: the old way, in the dialog that is open.
    const area = el("textarea", { class: "unseen", readonly: true }, text);
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function codeBox(text, kind = "") {
  return el("div", { class: `code ${kind}` }, el("pre", { tabindex: "0" }, el("code", {}, text)), copyButton(text, { hideLabel: kind !== "token" }));
}
