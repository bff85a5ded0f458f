// What a key remembers: searched, looked through by session, deleted, taken out and brought in.

import { ask, get, path, refusal, remove, save } from "../api.js";
import { el, replace } from "../dom.js";
import * as format from "../format.js";
import { keyPicker } from "../key_picker.js";
import { confirm, orGone } from "../overlay.js";
import { badge, button, empty, failure, loading, pageHead, rename, saidText, searchField, select, setOptions, show, start, toast } from "../parts.js";
import { importFile } from "./import_dialog.js";

const PAGE = 50;
/** What a search finds at most: the router's own limit. */
const FOUND_MAX = 500;
const WINDOWS = { hot: "Hot, up to 4 hours", working: "Working, up to 3 days", long_term: "Long-term, up to 90 days", archive: "Archive" };

export function page({ query, signal, go, note }) {
  const place = el("div", { class: "stack" }, loading());
  const control = select([], "", { "aria-label": "Memory key" });
  const picker = keyPicker(control);
  picker.load(query.get("key"), (keys) => keys[0]?.id ?? "", signal).then(
    (keys) => {
      if (!keys.length) {
        replace(place, el("div", { class: "panel" }, empty("memory", "No memory keys yet", "Memories belong to a key. Create one first.", button("Go to API Keys", { onclick: () => go("keys") }))));
        return;
      }
      replace(place, browser(picker, control, query.get("session") ?? "", signal, note));
    },
    (error) => error.name !== "AbortError" && replace(place, failure(error)),
  );
  return [pageHead("Memory", { about: "Every key has a vault of its own. What is deleted here is gone from answers at once." }), place];
}

function browser(picker, pick, session, signal, note) {
  const state = { key: pick.value, text: "", session };
  const list = el("div");
  const stats = el("div", { class: "tiles" });
  const sessions = select([["", "All sessions"]], "", { "aria-label": "Session" });

  const clear = button("Delete all", { icon: "trash", kind: "danger", onclick: start(() => deleteAll()) });
  const take = button("Export", { icon: "download", onclick: () => exportAll() });

  const fetchPage = ({ key, text, session: of }, cursor, limit = PAGE) => get(path(["keys", key, "memories"], { query: text, session: of, limit, cursor }), signal);
  // What is listed belongs to what was asked for then, whatever is chosen when it comes.
  let underway = 0;
  const load = () => show(list, async (latest) => {
    const asked = { ...state };
    underway += 1;
    const found = await fetchPage(asked).finally(() => { underway -= 1; });
    if (latest()) showStats(stats, found.stats);
    if (!found.memories.length) {
      return asked.text || asked.session
        ? empty("search", "Nothing matches", "Search works on words: try another one, or look in every session.")
        : empty("memory", "Nothing remembered yet", "The newest user message and the answer are remembered after each exchange with this key.");
    }
    const entries = el("ol", { class: "entries" });
    const end = el("div");
    append(entries, end, asked, found);
    return [entries, end];
  });
  const append = (entries, end, asked, found, limit = PAGE) => {
    const best = Math.max(...found.memories.map((memory) => memory.score));
    entries.append(...found.memories.map((memory) => {
      const item = entry(memory, asked.text ? best : 0, async () => {
        const done = await orGone(() => confirm("Delete this memory?", "It is gone from answers at once. This cannot be undone.", {
          yes: "Delete",
          work: async () => {
            await remove(path(["keys", asked.key, "memories", memory.id]));
            toast("Deleted");
          },
          extra: el("blockquote", { class: "quote", dir: "auto" }, memory.content.slice(0, 300)),
        }));
        if (!done) return;
        takeOut(item, asked);
      });
      return item;
    }));
    const more = found.next ? button("Show more", { onclick: async () => append(entries, end, asked, await fetchPage(asked, found.next)) }) : asked.text && found.memories.length === limit && theBest(entries, end, asked, limit);
    replace(end, more && el("div", { class: "panel-body" }, more));
  };
  /** A search has no further pages: what is said below one that may have found more. */
  const theBest = (entries, end, asked, limit) => {
    const more = async () => {
      const found = await fetchPage(asked, undefined, FOUND_MAX);
      entries.replaceChildren();
      append(entries, end, asked, found, FOUND_MAX);
    };
    return el("div", { class: "row ends" }, el("span", { class: "faint small" }, `The best ${limit} are shown.`), limit < FOUND_MAX && button("Show more", { onclick: more }));
  };
  /** Whoever deletes one far down stays there. */
  const takeOut = (item, asked) => {
    loadSessions();
    const other = item.nextElementSibling ?? item.previousElementSibling;
    // Another list came meanwhile, or is on its way: it may have been made before.
    if (!other || !item.isConnected || underway) {
      load();
      return;
    }
    item.remove();
    other.querySelector("[data-stay]").focus();
    get(path(["keys", asked.key, "memories"], { limit: 1 }), signal).then((found) => asked.key === state.key && showStats(stats, found.stats), () => {});
  };
  const loadSessions = async () => {
    const { key } = state;
    let leftOut = 0;
    // Without a list of them, only the one that was asked for can be chosen.
    const all = await get(path(["keys", key, "sessions"]), signal).then(
      (answer) => {
        leftOut = answer.left_out;
        return answer.sessions.map((one) => [one.session_id, `${one.session_id} (${format.whole(one.memories)})`]);
      },
      () => [],
    );
    if (key !== state.key) return;
    const lost = state.session && !all.some(([id]) => id === state.session);
    setOptions(sessions, [["", "All sessions"], ...all, ...(lost ? [[state.session, state.session]] : [])], state.session);
    if (leftOut) sessions.append(el("option", { disabled: true }, `${format.count(leftOut, "older one")} left out`));
  };
  /** After another choice: the address and the buttons tell of it. */
  const choose = () => {
    note("memory", { key: state.key, session: state.session });
    rename(clear, state.session ? "Delete session" : "Delete all");
    rename(take, state.session ? "Export session" : "Export");
  };
  pick.addEventListener("change", () => {
    Object.assign(state, { key: pick.value, session: "" });
    setOptions(sessions, [["", "All sessions"]], "");
    choose();
    load();
    loadSessions();
  });
  sessions.addEventListener("change", () => {
    state.session = sessions.value;
    choose();
    load();
  });
  const title = () => pick.selectedOptions[0]?.textContent ?? state.key;
  const deleteAll = async () => {
    const { key, session: of } = state;
    const what = of ? `the session ${of}` : "all memories";
    const done = await confirm(`Delete ${what}?`, `${title()}. They are gone from answers at once and from the files after compaction. This cannot be undone.`, {
      yes: "Delete",
      word: "delete",
      work: async () => {
        const { deleted } = await remove(path(["keys", key, "memories"], { session: of }));
        toast(`${format.count(deleted, "memory", "memories")} deleted`);
      },
    });
    if (!done) return;
    state.session = "";
    choose();
    load();
    loadSessions();
  };
  const exportAll = async () => {
    const { key, session: of } = state;
    const answer = await ask("GET", path(["keys", key, "memories", "export"], { session: of }));
    if (!answer.ok) throw await refusal(answer);
    await save(answer, `memories-${key}${of && `-${of.replace(/[^\w.@-]/g, "_")}`}.jsonl`);
  };
  const importInto = async () => {
    await importFile(state.key, title());
    load();
    loadSessions();
  };
  choose();
  load();
  loadSessions();
  return [
    el(
      "div",
      { class: "row wide" },
      el("span", { class: "inline-field grow" }, el("span", { class: "label", "aria-hidden": "true" }, "Key"), pick, picker.finder),
      el(
        "span",
        { class: "row tail" },
        take,
        button("Import", { icon: "upload", onclick: start(importInto) }),
        clear,
      ),
    ),
    stats,
    el(
      "section",
      { class: "panel", "aria-label": "Memories" },
      el("div", { class: "panel-head" }, searchField("Search memories", (text) => {
        state.text = text;
        load();
      }), el("span", { class: "inline-field" }, sessions)),
      list,
    ),
  ];
}

function showStats(place, stats) {
  const tile = (label, figure, note) => el("div", { class: "panel tile" }, el("div", { class: "label" }, label), el("div", { class: "figure" }, figure), el("div", { class: "note" }, note));
  replace(
    place,
    tile("Memories", format.short(stats.memories), format.bytes(stats.bytes)),
    tile("Tokens", format.short(stats.total_tokens), "in all of them"),
    tile("Sessions", format.whole(stats.sessions), "beside the core"),
    tile("Newest", stats.newest ? format.ago(stats.newest) : "–", stats.oldest ? `oldest ${format.ago(stats.oldest)}` : "nothing yet"),
  );
}

function entry(memory, best, drop) {
  const date = memory.timestamp;
  return el(
    "li",
    { class: "memory" },
    el(
      "div",
      { class: "row" },
      badge(memory.role, memory.role === "user" ? "accent" : ""),
      el("span", { class: "badge", title: WINDOWS[memory.window] }, (memory.window ?? "").replace("_", "-")),
      memory.session_id && el("span", { class: "badge mono" }, memory.session_id),
      el("span", { class: "faint small", title: format.moment(date) }, `${format.moment(date)}, ${format.count(memory.tokens, "token")}`),
      best > 0 && el("span", { class: "faint small" }, `match ${Math.round((100 * memory.score) / best)} %`),
    ),
    button("Delete this memory", {
      icon: "trash",
      kind: "small quiet",
      hideLabel: true,
      "data-stay": memory.id,
      onclick: start(drop),
    }),
    saidText(memory.content),
  );
}
