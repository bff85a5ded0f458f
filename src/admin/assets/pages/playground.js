// A conversation through the router as a key of one's choice, with what memory added and how long each part took.

import { ApiError, ask, events, get, path, refusal } from "../api.js";
import { DIALECTS, errorText } from "../dialects.js";
import { share } from "../chart.js";
import { add, el, icon, replace } from "../dom.js";
import * as format from "../format.js";
import { keyPicker } from "../key_picker.js";
import { badge, button, choice, empty, facts, field, input, pageHead, saidText, select, setOptions, tick, toast } from "../parts.js";

const MODES = [["on", "On"], ["read", "Read"], ["write", "Write"], ["off", "Off"]];
const BROKEN = "The answer broke off";
const SESSION = /^[A-Za-z0-9._:@-]{1,128}$/;

/** Kept while other pages are looked at; gone with the log-in. */
let kept = null;
window.addEventListener("loggedout", () => {
  kept?.running?.abort();
  kept = null;
});

export function page({ query, signal, note }) {
  kept ??= build(note);
  kept.refresh(query.get("key"), signal);
  return [pageHead("Playground", { tools: [button("New conversation", { icon: "plus", onclick: kept.clear })] }), kept.element];
}

function build(note) {
  const state = { mode: "on", turns: [], running: null, dialectChosen: false };
  const controls = {
    key: select([], "", { name: "key" }),
    dialect: select(Object.entries(DIALECTS).map(([id, { name }]) => [id, name]), "openai"),
    model: input({ name: "model", list: "models", placeholder: "gpt-4o, demo/echo, …" }),
    session: input({ name: "session", placeholder: "core vault" }),
    limit: input({ inputmode: "numeric", placeholder: "30" }),
    system: el("textarea", { rows: "3" }),
    stream: tick("Stream the answer", { checked: true }),
    earlier: tick("Send earlier turns too", { checked: true, note: "Without them you see what memory alone brings back." }),
    message: el("textarea", { rows: "2", name: "message", placeholder: "Say something", "aria-label": "Message" }),
  };
  const models = el("datalist", { id: "models" });
  const log = el("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
  const send = button("Send", { icon: "send", kind: "primary", type: "submit" });
  const stop = button("Stop", { icon: "stop", hidden: true, onclick: () => state.running?.abort() });
  const form = el("form", { class: "composer" }, controls.message, el("div", { class: "row ends" }, el("span", { class: "faint small" }, "Enter sends, Shift+Enter breaks the line"), el("span", { class: "row" }, stop, send)));

  // What is set, where the panel is folded.
  const gist = el("span", { class: "faint small" });
  const tell = () => replace(gist, [controls.key.selectedOptions[0]?.textContent.split(" · ")[0], controls.model.value].filter(Boolean).join(", "));

  /** From one answer on its way to another, or to none. */
  const run = (next) => {
    state.running = next;
    send.hidden = Boolean(next);
    stop.hidden = !next;
  };
  const clear = () => {
    state.running?.abort();
    run(null);
    state.turns = [];
    replace(log, empty("playground", "Try a key", "Your message goes the whole way an application's would: limits, memory, provider, usage."));
  };
  const submit = async () => {
    const text = controls.message.value.trim();
    if (!text || state.running) return;
    const wanted = request(state, controls, text);
    if (!wanted) return;
    log.querySelector(".empty")?.remove();
    controls.message.value = "";
    const running = new AbortController();
    run(running);
    try {
      await exchange(state.turns, wanted, text, log, running.signal);
    } finally {
      // Another conversation may have begun meanwhile.
      if (state.running === running) {
        run(null);
        controls.message.focus();
      }
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  controls.message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });

  const picker = keyPicker(controls.key);
  const loadModels = async () => {
    const id = controls.key.value;
    const known = id ? await get(path(["models"], { key: id })).then((all) => all.data.map((model) => model.id), () => []) : [];
    if (id !== controls.key.value) return;
    setOptions(models, known);
    if (!controls.model.value && known.length) controls.model.value = known.find((id) => id.startsWith("demo/")) ?? known[0];
    tell();
  };
  controls.key.addEventListener("change", () => {
    note("playground", { key: controls.key.value });
    loadModels();
  });
  controls.dialect.addEventListener("change", () => { state.dialectChosen = true; });
  controls.model.addEventListener("change", () => {
    tell();
    const name = controls.model.value;
    const own = /(^|\/)claude/.test(name) ? "anthropic" : /(^|\/)gemini/.test(name) ? "google" : null;
    // What somebody chose stays, until a model comes that has a dialect of its own.
    if (own || !state.dialectChosen) {
      controls.dialect.value = own ?? "openai";
      state.dialectChosen = false;
    }
  });

  const refresh = async (wanted, signal) => {
    try {
      await picker.load(wanted ?? controls.key.value, (keys) => (keys.find((key) => key.state === "active") ?? keys[0])?.id ?? "", signal);
      await loadModels();
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, { bad: true, more: error.hint });
      tell();
    }
  };

  clear();
  const wide = window.matchMedia("(min-width: 1081px)").matches;
  const element = el(
    "div",
    { class: "playground" },
    el(
      "details",
      { class: "panel setup", open: wide },
      el("summary", { class: "panel-head" }, el("h2", {}, "Request"), el("span", { class: "row" }, gist, icon("chevron"))),
      el(
        "div",
        { class: "panel-body stack" },
        el("div", { class: "stack tight" }, field("Memory key", controls.key), picker.finder),
        el("div", {}, field("Model", controls.model), models),
        field("Dialect", controls.dialect),
        el("div", { class: "field" }, el("span", { class: "label", "aria-hidden": "true" }, "Memory"), choice("Memory", MODES, state.mode, (mode) => { state.mode = mode; })),
        el("div", { class: "fields" }, field("Session", controls.session), field("Memories at most", controls.limit)),
        field("System text", controls.system),
        controls.stream.element,
        controls.earlier.element,
      ),
    ),
    el("section", { class: "panel talk", "aria-label": "Conversation" }, log, form),
  );
  return { element, clear, refresh, get running() { return state.running; } };
}

/** What to send, or null after saying what is missing. */
function request(state, controls, text) {
  const model = controls.model.value.trim();
  const session = controls.session.value.trim();
  const limit = controls.limit.value.trim();
  const wrong = !controls.key.value ? "Choose a memory key first."
    : !model ? "Name a model first."
      : session && !SESSION.test(session) ? "A session is 1 to 128 of A-Z a-z 0-9 . _ : @ -"
        : limit && !(/^\d{1,4}$/.test(limit) && Number(limit) <= 1000) ? "Memories at most is a number from 0 to 1000." : "";
  if (wrong) {
    toast(wrong, { bad: true });
    return null;
  }
  const dialect = DIALECTS[controls.dialect.value];
  const turns = [...(controls.earlier.control.checked ? state.turns : []), { role: "user", text }];
  const asked = { model, system: controls.system.value.trim(), turns, stream: controls.stream.control.checked };
  const headers = {
    "X-Memory-Mode": state.mode,
    "X-Debug": "true",
    ...(session && { "X-Session-ID": session }),
    ...(limit && { "X-Memory-Context-Limit": limit }),
    ...dialect.headers,
  };
  return { dialect, stream: asked.stream, mode: state.mode, call: { key_id: controls.key.value, path: dialect.path(asked), body: dialect.body(asked), headers } };
}

/** Asks, shows what comes, and adds both to `turns`. */
async function exchange(turns, wanted, text, log, signal) {
  const answer = el("p", { class: "text", dir: "auto" });
  const about = el("div", { class: "about" }, el("span", { class: "faint small" }, "Waiting for the first byte…"));
  const turn = el("article", { class: "turn", "aria-label": "Answer", "aria-busy": "true" }, answer, about);
  add(log, el("article", { class: "turn mine", "aria-label": "You" }, el("p", { class: "text", dir: "auto" }, text)), turn);
  log.scrollTop = log.scrollHeight;
  const written = typewriter(answer, log);

  const started = performance.now();
  const seen = { text: "", error: "", first: null, response: null };
  try {
    seen.response = await ask("POST", "/playground", { body: wanted.call, signal });
    if (seen.response.headers.get("x-mr-playground") === "refused") throw await refusal(seen.response);
    await read(seen, wanted, started, written.add);
  } catch (error) {
    seen.error = failed(error);
  }
  written.flush();
  const total = performance.now() - started;
  turn.removeAttribute("aria-busy");
  if (seen.error) add(turn, el("p", { class: "said-wrong", role: "alert" }, icon("alert"), seen.error));
  if (!seen.text && !seen.error) answer.append(el("span", { class: "faint" }, "An answer without text"));
  replace(about, summary(seen, total), details(seen, wanted, await recalled(wanted, seen, text)));
  turn.append(about);
  if (seen.text) turns.push({ role: "user", text }, { role: "assistant", text: seen.text });
  log.scrollTop = log.scrollHeight;
}

/** What went wrong, in words: of what breaks while an answer is read, a browser says nothing that helps. */
function failed(error) {
  if (error.name === "AbortError") return "Stopped";
  return error instanceof ApiError ? [error.message, error.hint].filter(Boolean).join(" – ") : BROKEN;
}

/**
 * Writes an answer's parts into `place`, once in each frame: to look where the log ends lays all of it out anew, and
 * thousands of parts may come at once.
 */
function typewriter(place, log) {
  const text = document.createTextNode("");
  place.append(text);
  let waiting = "";
  let frame = 0;
  const flush = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    if (!waiting) return;
    const below = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    text.appendData(waiting);
    waiting = "";
    if (below) log.scrollTop = log.scrollHeight;
  };
  const add = (part) => {
    waiting += part;
    frame ||= requestAnimationFrame(flush);
  };
  return { add, flush };
}

/** What was recalled: the debug header tells ids and scores, the memory browser has the texts. */
async function recalled({ call }, { response }, text) {
  let told = [];
  try {
    told = JSON.parse(response?.headers.get("x-mr-debug") ?? "{}").memories ?? [];
  } catch {
    // Its count stands in a header of its own.
  }
  const known = new Map();
  // A search for the message finds almost all of them, the newest memories the rest.
  for (const query of [text.slice(0, 500), ""]) {
    if (told.every(({ id }) => known.has(id))) break;
    const found = await get(path(["keys", call.key_id, "memories"], { query, limit: 200 })).then(({ memories }) => memories, () => []);
    for (const memory of found) known.set(memory.id, memory);
  }
  return told.map((memory) => ({ ...known.get(memory.id), ...memory }));
}

async function read(seen, { dialect, stream }, started, show) {
  const { response } = seen;
  const got = (part) => {
    if (!part) return;
    seen.first ??= performance.now() - started;
    seen.text += part;
    show(part);
  };
  const streamed = stream && (response.headers.get("content-type") ?? "").startsWith("text/event-stream");
  if (!streamed) {
    const raw = await response.text();
    let answer;
    try {
      answer = JSON.parse(raw);
    } catch {
      seen.error = raw.trim().slice(0, 500) || `Status ${response.status}`;
      return;
    }
    got(dialect.text(answer));
    seen.error = errorText(answer, response.ok) || (response.ok ? "" : raw.slice(0, 500));
    return;
  }
  let whole = false;
  for await (const data of events(response)) {
    if (data.trim() === "[DONE]") {
      whole = true;
      continue;
    }
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      seen.error ||= "A part of the answer cannot be read";
      continue;
    }
    seen.error ||= errorText(event, response.ok);
    whole ||= dialect.ends(event);
    got(dialect.delta(event));
  }
  if (!whole) seen.error ||= BROKEN;
}

function summary({ response, first }, total) {
  if (!response) return null;
  const header = (name) => response.headers.get(name);
  const number = (name) => (header(name) === null ? null : Number(header(name)));
  const parts = [
    first !== null && ["First text", format.milliseconds(first)],
    ["Whole answer", format.milliseconds(total)],
    header("x-mr-overhead-ms") !== null && ["Router", format.milliseconds(number("x-mr-overhead-ms"))],
    header("x-mr-memory-ms") !== null && ["Memory", format.milliseconds(number("x-mr-memory-ms"))],
    header("x-memory-tokens-retrieved") !== null && ["Recalled tokens", format.whole(number("x-memory-tokens-retrieved"))],
  ].filter(Boolean);
  return el(
    "ul",
    { class: "legend" },
    el("li", {}, badge(String(response.status), response.ok ? "good" : "bad")),
    parts.map(([name, value]) => el("li", {}, name, el("strong", {}, value))),
  );
}

function details({ response }, wanted, memories) {
  if (!response) return null;
  const count = response.headers.get("x-memory-chunks-retrieved");
  const best = Math.max(...memories.map((memory) => memory.score), 1e-9);
  const why = memories.map((memory) => el(
    "li",
    { class: "recalled" },
    el(
      "div",
      { class: "row" },
      memory.role && badge(memory.role),
      badge((memory.window ?? "").replace("_", "-")),
      memory.session_id && el("span", { class: "badge mono" }, memory.session_id),
      el("span", { class: "faint small" }, `${memory.timestamp ? `${format.ago(memory.timestamp)}, ` : ""}score ${Number(memory.score).toFixed(2)}`),
    ),
    share(memory.score / best),
    memory.content === undefined ? el("p", { class: "text" }, el("code", {}, memory.id)) : saidText(memory.content),
  ));
  const fold = (title, content) => el("details", {}, el("summary", {}, title), content);
  return el(
    "div",
    { class: "folds" },
    fold(
      `Recalled memories (${count ?? memories.length})`,
      why.length ? el("ol", { class: "stack tight" }, why) : el("p", { class: "faint small" }, wanted.mode === "off" || wanted.mode === "write" ? "This memory mode recalls nothing." : "Nothing in the vault helps with this message."),
    ),
    fold("Response headers", facts([...response.headers].map(([name, value]) => [el("code", {}, name), el("code", {}, value)]), "left")),
    fold("Request as sent", el("pre", { tabindex: "0" }, JSON.stringify(wanted.call, null, 2))),
  );
}
