// Memory keys: listed, filtered, and for each what can be done with it.

import { get, path, patch, remove } from "../api.js";
import { el } from "../dom.js";
import * as format from "../format.js";
import { confirm, menu, orGone } from "../overlay.js";
import { badge, button, choice, empty, pageHead, searchField, show, start, table, toast } from "../parts.js";
import { createKey, editKey, rotateKey, showSnippets } from "./key_dialogs.js";

const STATES = [["all", "All"], ["active", "Active"], ["revoked", "Revoked"], ["expired", "Expired"]];
/** Keys that are drawn at once: a thousand rows take a browser a second. */
const PAGE = 100;
/** Patterns of one key; all of them stand where it is edited. */
const MODELS_SHOWN = 10;
const KINDS = { active: "good", revoked: "bad", expired: "warn" };

export function page({ query, signal, go }) {
  const state = { keys: [], next: null, text: query.get("query") ?? "", state: "all" };
  const place = el("div");
  const ask = (cursor) => get(path(["keys"], { query: state.text, state: state.state, limit: PAGE, cursor }), signal);
  const load = () => show(place, async (latest) => {
    const { keys, next } = await ask();
    if (latest()) Object.assign(state, { keys, next });
    return list();
  });
  const more = async () => {
    const { keys: before, next: cursor } = state;
    const { keys, next } = await ask(cursor);
    // They follow that list, and no other.
    if (before !== state.keys) return;
    Object.assign(state, { keys: [...before, ...keys], next });
    if (manyAccounts(before) !== manyAccounts(state.keys)) {
      place.replaceChildren(list());
      return;
    }
    const table = keyTable(keys, menuOf, manyAccounts(before));
    place.querySelector("tbody").append(...table.querySelectorAll("tbody > tr"));
    place.querySelector(".more").hidden = !next;
  };
  const menuOf = (key) => actions(key, load, go);
  const create = async () => {
    if (await createKey()) load();
  };
  const list = () => {
    const { keys } = state;
    if (!keys.length && !state.text && state.state === "all") {
      return empty("keys", "No memory keys yet", "A memory key tells the router who is calling: one for each application or user, each with its own memory and limits.", button("Create key", { icon: "plus", kind: "primary", onclick: start(create) }));
    }
    if (!keys.length) return empty("search", "No key matches", "Try another word, or show keys of every state.");
    return el(
      "div",
      {},
      keyTable(keys, menuOf, manyAccounts(keys)),
      el("div", { class: "panel-body more", hidden: !state.next }, button("Show more", { onclick: more })),
    );
  };
  const tools = el(
    "div",
    { class: "panel-head" },
    searchField("Name, id or last four", (text) => {
      state.text = text;
      load();
    }, state.text),
    choice("State", STATES, state.state, (value) => {
      state.state = value;
      load();
    }),
  );
  load();
  return [
    pageHead("API Keys", {
      about: "Each key has a memory and a meter of its own, and stands where an SDK puts its API key.",
      tools: [button("Create key", { icon: "plus", kind: "primary", onclick: start(create) })],
    }),
    el("section", { class: "panel", "aria-label": "Keys" }, tools, place),
  ];
}

/** Whether it says anything whose account a key is of. */
function manyAccounts(keys) {
  return keys.some((key) => key.account !== "default");
}

function keyTable(keys, menuOf, withAccounts) {
  const columns = [
    { name: "Name", head: true, cell: (key) => [key.name ? el("bdi", {}, key.name) : el("span", { class: "faint" }, "without a name"), el("span", { class: "sub mono" }, key.id)] },
    { name: "State", cell: (key) => el("div", { class: "row" }, badge(key.state, KINDS[key.state], true), key.manage_keys && badge("manages keys", "accent")) },
    withAccounts && { name: "Account", cell: (key) => key.account },
    { name: "Token", cell: (key) => [el("code", { class: "nowrap" }, `…${key.last4}`), graces(key)] },
    { name: "Limits", kind: "broad", cell: limits },
    { name: "Created", cell: (key) => el("span", { title: format.moment(key.created_at), class: "nowrap" }, format.ago(key.created_at)) },
    { name: "Expires", cell: (key) => el("span", { title: key.expires_at ? format.moment(key.expires_at) : undefined, class: "nowrap" }, key.expires_at ? format.ago(key.expires_at) : "Never") },
    { name: "Actions", hideName: true, kind: "actions number", cell: menuOf },
  ];
  return table("Memory keys", columns.filter(Boolean), keys);
}

/** Former tokens that still work after a rotation. */
function graces(key) {
  const old = (key.tokens ?? []).filter((token) => token.valid_until && new Date(token.valid_until) > Date.now());
  return old.map((token) => el("span", { class: "sub" }, `…${token.last4} for ${format.duration((new Date(token.valid_until) - Date.now()) / 1000)} more`));
}

function limits({ limits: set, models }) {
  const words = [
    set?.rpm && `${format.short(set.rpm)} req/min`,
    set?.tpm && `${format.short(set.tpm)} tok/min`,
    set?.concurrent && `${format.whole(set.concurrent)} at once`,
    set?.budget_tokens && `${format.short(set.budget_tokens)} tok/${set.budget_period ?? "day"}`,
  ].filter(Boolean);
  const names = [models.slice(0, MODELS_SHOWN).join(", "), models.length > MODELS_SHOWN && `and ${format.whole(models.length - MODELS_SHOWN)} more`].filter(Boolean).join(" ");
  if (!words.length && !names) return el("span", { class: "faint" }, "None");
  return [words.join(" · "), names && el("span", { class: "sub mono" }, names)];
}

function actions(key, load, go) {
  const named = key.name || key.id;
  const change = (state) => async () => {
    await patch(path(["keys", key.id]), { state });
    toast(state === "active" ? `${named} is active again` : `${named} is revoked`);
    return true;
  };
  const after = (work) => start(async () => {
    if (await orGone(work)) load();
  });
  return menu(`Actions for ${named}`, [
    { label: "Code snippets", icon: "copy", onclick: start(() => showSnippets(key)) },
    { label: "Try in playground", icon: "playground", onclick: () => go("playground", { key: key.id }) },
    { label: "Memories", icon: "memory", onclick: () => go("memory", { key: key.id }) },
    { label: "Usage", icon: "usage", onclick: () => go("usage", { key: key.id }) },
    null,
    { label: "Edit", icon: "settings", onclick: after(() => editKey(key)) },
    { label: "Rotate token", icon: "reload", onclick: after(() => rotateKey(key)) },
    key.state === "revoked"
      ? { label: "Enable", icon: "check", onclick: after(change("active")) }
      : { label: "Revoke", icon: "stop", danger: true, onclick: after(() => confirm(`Revoke ${named}?`, "Every call with this key is refused from now on, on every core within two seconds. Its memories stay, and it can be enabled again.", { yes: "Revoke", work: change("revoked") })) },
    {
      label: "Delete",
      icon: "trash",
      danger: true,
      onclick: after(() => confirm(`Delete ${named}?`, "The key and the means to read its memories are gone for good. This cannot be undone. Usage that was counted stays.", {
        yes: "Delete for good",
        word: format.visible(key.name).trim() || key.last4,
        work: async () => {
          await remove(path(["keys", key.id], { forever: "true" }));
          toast(`${named} is deleted`);
        },
      })),
    },
  ], key.id);
}
