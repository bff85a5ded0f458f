// A choice among memory keys: also of one that stands further down than a list goes, and never of another than was asked for.

import { get, path } from "./api.js";
import { el } from "./dom.js";
import { input, later, setOptions, toast } from "./parts.js";

/** What a key is called in a list. */
function title(key) {
  return `${key.name || "without a name"} · …${key.last4}${key.state === "active" ? "" : ` (${key.state})`}`;
}

/**
 * Makes `control`, a select, one of keys, with `first` as options in front of them. Where there are more keys than one
 * list has, `finder` finds them. `known` are all keys that were seen, by their ids.
 */
export function keyPicker(control, { first = [] } = {}) {
  const known = new Map();
  const find = input({ type: "search", placeholder: "Find a key", "aria-label": "Find a key" });
  const box = el("div", { class: "finder", hidden: true }, find);
  let asked = 0;
  const list = (keys, id) => {
    for (const key of keys) known.set(key.id, key);
    const options = keys.map((key) => [key.id, title(key)]);
    // What is chosen is always among them.
    if (id && !keys.some((key) => key.id === id)) options.unshift([id, known.has(id) ? title(known.get(id)) : id]);
    setOptions(control, [...first, ...options], id);
  };
  /** Chooses the key of this id, else what `otherwise` makes of the list; where there is none of this id, it fails. */
  const load = async (id, otherwise, signal) => {
    asked += 1;
    const turn = asked;
    const { keys, next } = await get("/keys", signal);
    if (turn !== asked) return keys;
    box.hidden = !next;
    list(keys, id ? "" : otherwise(keys));
    if (!id) return keys;
    if (!keys.some((key) => key.id === id)) known.set(id, await get(path(["keys", id]), signal));
    if (turn === asked) list(keys, id);
    return keys;
  };
  find.addEventListener("input", later(async () => {
    asked += 1;
    const turn = asked;
    try {
      const { keys } = await get(path(["keys"], { query: find.value.trim() }));
      // What is chosen stays so until another one is picked.
      if (turn === asked) list(keys, control.value);
    } catch (error) {
      toast(error.message, { bad: true, more: error.hint });
    }
  }, 200));
  return { finder: box, known, load };
}
