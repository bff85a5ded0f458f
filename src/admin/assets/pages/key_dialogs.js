// The dialogs for one memory key: create, edit, rotate, the token that is shown once, and code that uses it.

import { get, patch, path, post } from "../api.js";
import { el } from "../dom.js";
import * as format from "../format.js";
import { dialog, tabs } from "../overlay.js";
import { button, codeBox, complain, field, input, notice, select, setOptions, show, tick, toast } from "../parts.js";
import { snippets } from "../snippets.js";

const DAY = 86_400;
const LIFETIMES = [["", "Never"], [String(DAY), "In a day"], [String(7 * DAY), "In 7 days"], [String(30 * DAY), "In 30 days"], [String(90 * DAY), "In 90 days"], [String(365 * DAY), "In a year"], ["date", "On a date…"]];
/** The largest numbers of those limits that are counted in 32 bits. */
const MOST = { rpm: 4_294_967_295, concurrent: 4_294_967_295 };
const GRACES = [["0", "At once"], ["600", "In 10 minutes"], ["3600", "In an hour"], [String(DAY), "In a day"], [String(7 * DAY), "In a week"]];

export async function createKey() {
  const made = await dialog("Create a memory key", (close) => {
    const form = keyForm();
    return {
      body: form.body,
      fieldOf: form.fieldOf,
      actions: [button("Cancel", { onclick: () => close() }), button("Create key", { kind: "primary", type: "submit" })],
      onsubmit: async () => {
        const wanted = form.read();
        if (wanted) close(await post("/keys", wanted));
      },
    };
  });
  if (made) await showToken(made, "Your new memory key");
  return made;
}

export function editKey(key) {
  return dialog(`Edit ${key.name || key.id}`, (close) => {
    const form = keyForm(key);
    return {
      body: form.body,
      fieldOf: form.fieldOf,
      actions: [button("Cancel", { onclick: () => close() }), button("Save", { kind: "primary", type: "submit" })],
      onsubmit: async () => {
        const wanted = form.read();
        if (!wanted) return;
        // What was left alone is not sent: writing it anew could change it.
        if (!Object.keys(wanted).length) {
          close(false);
          return;
        }
        await patch(path(["keys", key.id]), wanted);
        toast("Saved. Every core uses it within two seconds.");
        close(true);
      },
    };
  });
}

export async function rotateKey(key) {
  const made = await dialog(`Rotate the token of ${key.name || key.id}`, (close) => {
    const grace = select(GRACES, "3600");
    return {
      body: [
        el("p", {}, "A new token for the same key: memories, limits and usage stay."),
        field("The old token stops working", grace, { note: `…${key.last4} goes on working until then.` }),
      ],
      actions: [button("Cancel", { onclick: () => close() }), button("Rotate", { kind: "primary", type: "submit" })],
      onsubmit: async () => close(await post(path(["keys", key.id, "rotate"]), { grace_s: Number(grace.value) })),
    };
  });
  if (made) await showToken(made, "The new token");
  return made;
}

/** For so long a press may still have been meant for the form that was there before. */
const HASTE_MS = 700;

/** The only time that a token is seen: it waits for nothing, and is not put away unseen. */
function showToken(key, title) {
  const seen = (close) => {
    const made = button("I have copied it", { kind: "primary", disabled: true, onclick: () => close(true) });
    setTimeout(() => { made.disabled = false; }, HASTE_MS);
    return made;
  };
  return dialog(title, (close) => ({
    body: [
      notice("warn", "alert", "Copy it now. It is shown this once: the router keeps only a keyed hash of it."),
      codeBox(key.token, "token"),
      el("div", { class: "stack tight" }, el("h3", {}, "Use it"), codeTabs(key, key.token)),
    ],
    actions: [seen(close)],
  }), { kind: "wide", firm: true });
}

export function showSnippets(key) {
  return dialog(`Use ${key.name || key.id}`, (close) => ({
    body: [
      el("p", { class: "soft" }, "Put the token of this key (ends in ", el("code", {}, key.last4), ") where the snippets say ", el("code", {}, "mk_your_memory_key"), "."),
      codeTabs(key, "mk_your_memory_key"),
    ],
    actions: [button("Done", { kind: "primary", onclick: () => close() })],
  }), { kind: "wide" });
}

function codeTabs(key, token) {
  const place = el("div");
  show(place, async () => {
    const [address, models] = await Promise.all([routerAddress(), modelsOf(key)]);
    return tabs("Code for", snippets(address, token, models).map(([name, text]) => [name, () => codeBox(text)]));
  });
  return place;
}

/** What the key can use now; nothing where that cannot be said. */
function modelsOf(key) {
  return get(path(["models"], { key: key.id })).then(({ data }) => data.map((model) => model.id), () => []);
}

async function routerAddress() {
  try {
    return (await get("/overview")).data_url ?? "http://127.0.0.1:8080";
  } catch {
    return "http://127.0.0.1:8080";
  }
}

/** The fields of a key, empty or as a key has them; `read` gives what to send, or null after it said what is wrong; `fieldOf` is the control that a refusal is about. */
function keyForm(key) {
  const limits = key?.limits ?? {};
  const name = input({ value: key?.name ?? "", maxlength: "100", placeholder: "my-app" });
  const account = input({ value: key?.account ?? "default", list: "accounts" });
  const accounts = el("datalist", { id: "accounts" });
  const models = input({ value: (key?.models ?? []).join(", "), placeholder: "openai/*, claude*" });
  const lifetime = select(key?.expires_at ? [["keep", `As it is: ${format.moment(key.expires_at)}`], ...LIFETIMES] : LIFETIMES, key?.expires_at ? "keep" : "");
  const date = input({ type: "date" });
  const number = (value) => input({ inputmode: "numeric", value: value ?? "", placeholder: "no limit" });
  const before = { name: name.value, models: models.value };
  const numbers = { rpm: number(limits.rpm), tpm: number(limits.tpm), concurrent: number(limits.concurrent), budget_tokens: number(limits.budget_tokens) };
  const period = select([["day", "a day"], ["month", "a month"]], limits.budget_period ?? "day");
  const manage = tick("May manage keys", { checked: key?.manage_keys, note: "It can mint, list and revoke keys of its account through /v1/keys." });
  const token = input({ type: "password", autocomplete: "off", placeholder: "mk_…" });
  const dateField = field("Date", date, { whole: true });
  dateField.hidden = true;
  lifetime.addEventListener("change", () => { dateField.hidden = lifetime.value !== "date"; });
  if (!key) get("/accounts").then(({ accounts: all }) => setOptions(accounts, all.map((one) => one.account)), () => {});

  const body = [
    el(
      "div",
      { class: "fields" },
      field("Name", name, { whole: !key, note: key ? undefined : "For people: an application or a user." }),
      key ? null : el("div", {}, field("Account", account, { note: "Whose provider keys it uses." }), accounts),
      field("Expires", lifetime),
      dateField,
      field("Models", models, { whole: true, note: "Patterns with *, separated by commas. Empty: every model." }),
    ),
    el("fieldset", { class: "stack tight" }, el("legend", { class: "label" }, "Limits"), el(
      "div",
      { class: "fields three" },
      field("Requests per minute", numbers.rpm),
      field("Tokens per minute", numbers.tpm),
      field("Requests at once", numbers.concurrent, { kind: "filler" }),
      field("Token budget", numbers.budget_tokens, { kind: "double" }),
      field("Budget is for", period),
    )),
    manage.element,
    key ? null : el("details", {}, el("summary", { class: "soft" }, "Import an existing token"), field("Token", token, { note: "Instead of a new one. It must start with mk_ or mk-." })),
  ];

  const read = () => {
    const set = {};
    // What was wrong before may be right now.
    for (const control of [name, account, models, token, date, ...Object.values(numbers)]) if (control.closest(".field")) complain(control, "");
    for (const [limit, control] of Object.entries(numbers)) {
      if (control.value === String(limits[limit] ?? "")) continue;
      const text = control.value.replace(/[\s,_]/g, "");
      const most = MOST[limit] ?? Number.MAX_SAFE_INTEGER;
      if (text && !(/^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= most)) {
        complain(control, Number(text) > most ? `At most ${format.whole(most)}.` : "A whole number above 0, or nothing.");
        return null;
      }
      set[limit] = text ? Number(text) : null;
    }
    const budget = set.budget_tokens === undefined ? limits.budget_tokens : set.budget_tokens;
    if (budget && (set.budget_tokens || period.value !== limits.budget_period)) set.budget_period = period.value;
    const wanted = {};
    if (name.value !== before.name) wanted.name = name.value.trim();
    if (models.value !== before.models) wanted.models = models.value.split(/[,\s]+/).filter(Boolean);
    if (manage.control.checked !== Boolean(key?.manage_keys)) wanted.manage_keys = manage.control.checked;
    if (Object.keys(set).length) wanted.limits = set;
    if (lifetime.value === "date") {
      // The end of that day.
      const end = new Date(`${date.value}T23:59:59`);
      if (!(end > Date.now())) {
        complain(date, "A day that is not over.");
        return null;
      }
      wanted.expires_at = end.toISOString().replace(/\.\d+Z/, "Z");
    } else if (lifetime.value === "" && key?.expires_at) {
      wanted.expires_at = null;
    } else if (lifetime.value && lifetime.value !== "keep") {
      wanted.expires_in_s = Number(lifetime.value);
    }
    if (!key) {
      wanted.account = account.value.trim() || "default";
      if (token.value.trim()) wanted.token = token.value.trim();
    }
    return wanted;
  };
  const fieldOf = ({ message }) => [[/^a name /, name], [/^models:/, models], [/^account:/, key ? null : account], [/\btoken\b|^a memory key /, key ? null : token]].find(([about]) => about.test(message))?.[1];
  return { body, read, fieldOf };
}
