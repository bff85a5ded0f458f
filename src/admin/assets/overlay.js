// What lies above a page: dialogs, questions, menus. <dialog> keeps the focus inside and gives it back.

import { add, el, newId, replace } from "./dom.js";
import { visible } from "./format.js";
import { busy, button, complain, gatherNotices, notice, toast } from "./parts.js";

/** For so long the second click of a double one may come. */
const DOUBLE_MS = 600;

/**
 * Opens a dialog. `form(close)` returns `{ body, actions, onsubmit, fieldOf }`. Resolves with what `close` was given;
 * undefined when it was dismissed. What was under way then still comes to its end first: a token that it makes must be
 * shown. What `onsubmit` throws is said inside, at the control that `fieldOf(error)` names where it names one; where
 * what the dialog is about is gone, it closes and fails. With `firm` it closes only by its own buttons.
 */
export function dialog(title, form, { kind = "", firm = false } = {}) {
  return new Promise((resolve, reject) => {
    const id = newId("dialog");
    let given;
    let running;
    let gone = null;
    const close = (value) => {
      given = value;
      box.close();
    };
    const { body, actions = [], onsubmit, fieldOf } = form(close);
    const wrong = el("div", { class: "dialog-wrong", hidden: true });
    const box = el(
      "dialog",
      { class: kind, "aria-labelledby": id, "data-firm": firm },
      el(
        "form",
        { method: "dialog", novalidate: true },
        el("div", { class: "dialog-head" }, el("h2", { id }, title), firm ? null : button("Close", { icon: "close", kind: "quiet", hideLabel: true, onclick: () => close() })),
        el("div", { class: "dialog-body" }, body),
        actions.length ? el("div", { class: "dialog-end" }, wrong, actions) : null,
      ),
    );
    const submit = async () => {
      wrong.hidden = true;
      try {
        await onsubmit();
      } catch (error) {
        // Nobody sees a dialog that was left.
        if (error.name === "AbortError" || !box.open) throw error;
        if (error.status === 404) {
          gone = error;
          close();
          return;
        }
        const control = fieldOf?.(error);
        if (control) {
          complain(control, [error.message, error.hint].filter(Boolean).join(". "));
          return;
        }
        wrong.hidden = false;
        replace(wrong, notice("bad", "alert", error.message, error.hint && el("div", { class: "small" }, error.hint)));
      }
    };
    box.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const control = box.querySelector("button[type=submit]");
      if (onsubmit && control) running = Promise.all([running, busy(control, submit)]);
    });
    // The second click of a double one was meant for what lay here before.
    const opened = performance.now();
    const early = (event) => {
      if (event.detail < 2 || performance.now() - opened > DOUBLE_MS) return;
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    for (const press of ["mousedown", "click"]) box.addEventListener(press, early, { capture: true });
    box.addEventListener("cancel", (event) => firm && event.preventDefault());
    // A browser asks with `cancel` only once; a second press would close it.
    box.addEventListener("keydown", (event) => firm && event.key === "Escape" && event.preventDefault());
    // A press on the backdrop is a press on the dialog itself, and so is one on its scrollbar.
    box.addEventListener("mousedown", (event) => event.target === box && !firm && beside(box, event) && close());
    box.addEventListener("close", async () => {
      gatherNotices();
      box.remove();
      await running;
      if (gone) reject(gone);
      else resolve(given);
    });
    document.body.append(box);
    box.showModal();
    gatherNotices();
    box.querySelector(".dialog-body :is(input, select, textarea):not([type=hidden])")?.focus();
  });
}

function beside(box, { clientX: x, clientY: y }) {
  const { left, right, top, bottom } = box.getBoundingClientRect();
  return x < left || x > right || y < top || y > bottom;
}

/** Runs `work`; true as well where what it was about is gone already, which is said. */
export async function orGone(work) {
  try {
    return await work();
  } catch (error) {
    if (error.status !== 404) throw error;
    toast(error.message, { bad: true, more: error.hint });
    return true;
  }
}

/** Asks before something that cannot be undone. With `word`, it has to be typed. `work` runs while the button is busy. */
export function confirm(title, text, { yes, word, danger = true, work, extra }) {
  return dialog(title, (close) => {
    // White space is not seen: what looks the same is the same.
    const plain = (text) => visible(text).replace(/\s+/g, " ").trim();
    const typed = word && el("input", { type: "text", autocomplete: "off", spellcheck: "false", id: newId("word") });
    const go = button(yes, { kind: `primary${danger ? " danger" : ""}`, type: "submit", disabled: Boolean(word) });
    typed?.addEventListener("input", () => { go.disabled = plain(typed.value) !== plain(word); });
    return {
      body: [
        el("p", {}, text),
        extra,
        word && el("div", { class: "field" }, el("label", { for: typed.id }, "Type ", el("code", {}, plain(word)), " to confirm"), typed),
      ],
      actions: [button("Cancel", { onclick: () => close(false) }), go],
      onsubmit: async () => {
        if (go.disabled) return;
        await work?.();
        close(true);
      },
    };
  });
}

/** A button that opens a menu. `items`: `{ label, icon, danger, onclick }`, or null for a line. `stay` is the button's `data-stay`. */
export function menu(label, items, stay) {
  const id = newId("menu");
  const list = el("div", { class: "menu", popover: "auto", id, role: "menu", "aria-label": label });
  const opener = button(label, { icon: "more", kind: "quiet small", hideLabel: true, "aria-haspopup": "menu", "aria-expanded": "false", popovertarget: id, "data-stay": stay });
  // Filled when it is opened first: a page of keys has a thousand menus.
  list.addEventListener("beforetoggle", () => {
    if (list.childElementCount) return;
    for (const item of items) {
      if (item === null) {
        add(list, el("hr"));
        continue;
      }
      const made = button(item.label, { icon: item.icon, kind: item.danger ? "danger" : "", role: "menuitem", tabindex: "-1" });
      made.addEventListener("click", () => {
        list.hidePopover();
        item.onclick();
      });
      add(list, made);
    }
  });
  // It stands where its opener was when it opened.
  let leave;
  const moved = (from) => {
    const { left, top } = opener.getBoundingClientRect();
    if (left !== from.left || top !== from.top) list.hidePopover();
  };
  // Before it is seen: "toggle" comes a moment later, in which the page may move.
  list.addEventListener("beforetoggle", (event) => {
    leave?.abort();
    if (event.newState !== "open") return;
    const from = opener.getBoundingClientRect();
    leave = new AbortController();
    const { signal } = leave;
    window.addEventListener("scroll", () => moved(from), { capture: true, signal });
    window.addEventListener("resize", () => moved(from), { signal });
  });
  list.addEventListener("toggle", (event) => {
    const open = event.newState === "open";
    opener.setAttribute("aria-expanded", String(open));
    if (!open) return;
    place(list, opener);
    list.querySelector("[role=menuitem]").focus({ preventScroll: true });
  });
  list.addEventListener("keydown", (event) => {
    const all = [...list.querySelectorAll("[role=menuitem]")];
    const at = all.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      all[(to + all.length) % all.length].focus();
    } else if (event.key === "Tab") {
      list.hidePopover();
    }
  });
  return el("span", {}, opener, list);
}

/** Below its opener, right edges in line; above it where there is no room. */
function place(list, opener) {
  const from = opener.getBoundingClientRect();
  const size = list.getBoundingClientRect();
  const below = from.bottom + 4 + size.height < window.innerHeight;
  list.style.top = `${below ? from.bottom + 4 : Math.max(8, from.top - 4 - size.height)}px`;
  list.style.left = `${Math.max(8, from.right - size.width)}px`;
}

/** Tabs: `entries` are [label, content()] pairs. */
export function tabs(label, entries) {
  const place = el("div", { role: "tabpanel", id: newId("tab"), tabindex: "0" });
  const buttons = entries.map(([name], at) => el(
    "button",
    { type: "button", role: "tab", id: newId("tab"), "aria-controls": place.id, onclick: () => pick(at) },
    name,
  ));
  const pick = (at) => {
    buttons.forEach((one, index) => {
      one.setAttribute("aria-selected", String(index === at));
      one.tabIndex = index === at ? 0 : -1;
    });
    place.setAttribute("aria-labelledby", buttons[at].id);
    place.replaceChildren(entries[at][1]());
  };
  const list = el("div", { class: "tabs", role: "tablist", "aria-label": label }, buttons);
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const to = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
    pick(to);
    buttons[to].focus();
  });
  pick(0);
  return el("div", { class: "stack tight" }, list, place);
}
