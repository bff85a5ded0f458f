// Provider keys per account, the key snapshot, the log, and the configuration as it runs.

import { call, get, path, post, put, remove } from "../api.js";
import { el, icon, replace } from "../dom.js";
import * as format from "../format.js";
import { confirm, dialog, orGone } from "../overlay.js";
import { badge, button, complain, empty, facts, field, input, pageHead, panel, select, setOptions, show, start, tick, toast } from "../parts.js";

/** Sections in the order of the configuration file; what is not named here follows. */
const SECTIONS = ["server", "admin", "keys", "limits", "timeouts", "providers", "routing", "memory", "usage", "metrics", "log", "errors", "cors", "demo"];
const LEVELS = ["off", "error", "warn", "info", "debug", "trace"];
/** As the router takes one. */
const ACCOUNT = /^(?!\.{1,2}$)[A-Za-z0-9_.@:-]{1,128}$/;

export function page({ query, signal, note }) {
  return [
    pageHead("Settings"),
    providers(query.get("account") ?? "default", signal, note),
    el("div", { class: "fields" }, snapshot(signal), log(signal)),
    configuration(signal),
  ];
}

/* Provider keys */

function providers(first, signal, note) {
  const place = el("div");
  const account = select([first], first, { "aria-label": "Account" });
  const load = () => show(place, async () => {
    const { providers: all } = await get(path(["accounts", account.value, "providers"]), signal);
    const used = all.filter((one) => one.keys.length);
    const free = all.filter((one) => one.configured && !one.keys.length);
    return [
      used.length
        ? el("ul", { class: "entries" }, used.map((one) => providerEntry(account.value, one, load)))
        : empty("keys", "No provider keys in this account", "Add the key of a provider, and the account's memory keys can use its models. Applications may also pass a provider key with each request."),
      free.length > 0 && el("div", { class: "panel-body" }, el("div", { class: "stack tight" }, el("h3", { class: "soft" }, "Add a key for"), el("div", { class: "row" }, free.map((one) => (one.needs_key
        ? button(one.provider, { icon: "plus", kind: "small", onclick: start(() => addKey(account.value, one.provider, load)) })
        : badge(`${one.provider}: needs no key`)))))),
    ];
  });
  // The one to go back to when no new one is made.
  let chosen = first;
  account.addEventListener("change", () => {
    chosen = account.value;
    note("settings", { account: chosen });
    load();
  });
  get("/accounts", signal).then(({ accounts }) => {
    const names = [...new Set([chosen, ...accounts.map((one) => one.account)])];
    setOptions(account, [...names.map((name) => [name, name]), ["", "New account…"]], chosen);
  }, () => {});
  account.addEventListener("change", async (event) => {
    if (account.value) return;
    event.stopImmediatePropagation();
    const name = await newAccount();
    if (name && ![...account.options].some((one) => one.value === name)) account.prepend(el("option", { value: name }, name));
    account.value = name || chosen;
    if (name) account.dispatchEvent(new Event("change"));
  }, { capture: true });
  load();
  return panel("Provider keys", place, { padded: false, tools: [el("span", { class: "inline-field" }, el("span", { class: "label", "aria-hidden": "true" }, "Account"), account)] });
}

function newAccount() {
  return dialog("New account", (close) => {
    const name = input({ maxlength: "128" });
    return {
      body: [field("Name", name, { note: "It comes into being with its first key." })],
      actions: [button("Cancel", { onclick: () => close() }), button("Go on", { kind: "primary", type: "submit" })],
      onsubmit: async () => {
        const wanted = name.value.trim();
        if (ACCOUNT.test(wanted)) close(wanted);
        else complain(name, wanted ? "1 to 128 of A-Z a-z 0-9 - _ . @ :, and not . or .." : "A name, please.");
      },
    };
  });
}

function providerEntry(account, one, load) {
  return el(
    "li",
    {},
    el(
      "div",
      { class: "row ends" },
      el("div", { class: "row" }, el("h3", { class: "entry-name" }, one.provider), one.kind !== one.provider && badge(one.kind), !one.configured && badge("not in the configuration", "warn")),
      one.configured && one.needs_key && button("Add another", { icon: "plus", kind: "small quiet", onclick: start(() => addKey(account, one.provider, load)) }),
    ),
    el("ul", { class: "stack tight" }, one.keys.map((key) => storedKey(account, one, key, load))),
  );
}

function storedKey(account, { provider, configured }, key, load) {
  const named = key.last4 ? `${provider} key …${key.last4}` : `short ${provider} key ${key.id}`;
  const verdict = el("span", { class: "row", role: "status" });
  const place = ["accounts", account, "providers", provider, key.id];
  const test = async () => {
    replace(verdict, badge("Testing…"));
    try {
      const said = await call("POST", path([...place, "test"]), { body: {} });
      const detail = [said.reason, said.status && `status ${said.status}`, format.milliseconds(said.latency_ms)].filter(Boolean).join(", ");
      const [word, kind] = said.works === true ? ["Works", "good"] : said.works === false ? ["Does not work", "bad"] : ["Cannot tell", "warn"];
      replace(verdict, badge(word, kind, true), el("span", { class: "faint small" }, detail));
    } catch (error) {
      replace(verdict);
      throw error;
    }
  };
  const drop = () => orGone(() => confirm(`Remove the ${named}?`, "Requests stop using it within two seconds. The key itself stays valid at the provider.", {
    yes: "Remove",
    work: async () => {
      await remove(path(place));
      toast(`The ${provider} key is removed`);
    },
  })).then((done) => done && load());
  return el(
    "li",
    { class: "row wide stored" },
    el("code", {}, key.last4 ? `…${key.last4}` : "(short key)"),
    el("span", { class: "faint small", title: format.moment(key.created_at) }, `added ${format.ago(key.created_at)}`),
    verdict,
    el(
      "span",
      { class: "row tail" },
      configured && button("Test", { kind: "small", onclick: test, "aria-label": `Test the ${named}` }),
      button("Remove", { kind: "small danger", onclick: start(drop), "aria-label": `Remove the ${named}` }),
    ),
  );
}

async function addKey(account, provider, load) {
  const added = await dialog(`Add a key for ${provider}`, (close) => {
    const key = input({ type: "password", autocomplete: "off", name: "provider-key" });
    return {
      body: [field("Provider key", key, { note: `Sealed into the snapshot for the account ${account}. Only its last four characters are ever shown again.` })],
      fieldOf: ({ status }) => ([400, 409].includes(status) ? key : null),
      actions: [button("Cancel", { onclick: () => close() }), button("Add key", { kind: "primary", type: "submit" })],
      onsubmit: async () => {
        complain(key, key.value.trim() ? "" : "Paste the key first.");
        if (key.value.trim()) close(await post(path(["accounts", account, "providers", provider]), { key: key.value.trim() }));
      },
    };
  });
  if (!added) return;
  toast(`The ${provider} key ${added.last4 && `…${added.last4} `}is stored. Requests use it within two seconds.`);
  load();
}

/* Snapshot */

function snapshot(signal) {
  const place = el("div");
  const draw = () => show(place, async () => {
    const { snapshot: now, counts } = await get("/overview", signal);
    return facts([
      ["Generation", format.whole(now.generation)],
      ["Written", el("span", { title: format.moment(now.created_at) }, format.ago(now.created_at))],
      ["Loaded", el("span", { title: format.moment(now.loaded_at) }, format.ago(now.loaded_at))],
      ["Memory keys", format.whole(counts.keys)],
      ["Provider keys", format.whole(counts.provider_keys)],
      ["Refused files", format.whole(now.refusals)],
      now.last_refusal && ["Last refusal", badge(format.refused(now.last_refusal), "warn")],
    ]);
  });
  const reload = async () => {
    const said = await post("/reload");
    if (said.result === "refused") toast("The snapshot was refused", { bad: true, more: format.refused(said.reason) });
    else toast(said.result === "taken" ? `Generation ${said.generation} is in use, ${format.count(said.keys, "key")}` : `Nothing new: generation ${said.generation} stays in use`);
    draw();
  };
  draw();
  return panel("Key snapshot", place, { tools: [button("Read it now", { icon: "reload", kind: "small", onclick: reload })] });
}

/* Log */

function log(signal) {
  const place = el("div");
  show(place, async () => {
    const now = await get("/log", signal);
    const level = select(LEVELS, now.level);
    const sample = input({ inputmode: "numeric", value: now.sample });
    const access = tick("A line for each request", { checked: now.access });
    const save = button("Apply", { kind: "primary", type: "submit" });
    const form = el(
      "form",
      { class: "stack", novalidate: true },
      el("div", { class: "fields" }, field("Level", level), field("Log one good request in", sample)),
      access.element,
      el("div", { class: "row ends" }, el("span", { class: "faint small" }, `Format ${now.format}, ${format.count(now.dropped ?? 0, "line")} dropped`), save),
    );
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const one = Number(sample.value);
      if (!(Number.isInteger(one) && one >= 1)) {
        complain(sample, "A whole number from 1.");
        return;
      }
      complain(sample, "");
      try {
        await put("/log", { level: level.value, access: access.control.checked, sample: one });
        toast("The log follows at once. A restart goes back to the configuration.");
      } catch (error) {
        toast(error.message, { bad: true, more: error.hint });
      }
    });
    return form;
  });
  return panel("Log", place);
}

/* Configuration */

function configuration(signal) {
  const place = el("div");
  show(place, async () => {
    const { dir, sections } = await get("/config", signal);
    return [
      el("div", { class: "panel-body" }, facts([["Directory", el("code", {}, dir)]], "left")),
      inOrder(sections).map(([name, values]) => el(
        "details",
        { class: "section" },
        el("summary", {}, icon("chevron"), el("code", {}, `[${name}]`), el("span", { class: "faint small" }, format.count(leaves(values, []).length, "value"))),
        facts(leaves(values, []).map(([key, value]) => [el("code", {}, key), el("code", {}, value)]), "left"),
      )),
    ];
  });
  return panel("Configuration as it runs", place, { padded: false, tools: [el("span", { class: "faint small" }, "memoryrouter.toml")] });
}

function inOrder(sections) {
  const place = (name) => (SECTIONS.includes(name) ? SECTIONS.indexOf(name) : SECTIONS.length);
  return Object.entries(sections).sort(([one], [other]) => place(one) - place(other) || one.localeCompare(other));
}

/** Nested values as dotted names. */
function leaves(value, names) {
  if (value !== null && typeof value === "object" && !Array.isArray(value)) {
    return Object.entries(value).sort(([one], [other]) => one.localeCompare(other)).flatMap(([name, inner]) => leaves(inner, [...names, name]));
  }
  return [[names.join(".") || "value", value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value)]];
}
