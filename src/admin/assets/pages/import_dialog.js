// Bringing a file of memories into a key's vault, however large it is, with a word about how far it is.

import { ask, lines, path, refusal } from "../api.js";
import { el } from "../dom.js";
import * as format from "../format.js";
import { dialog } from "../overlay.js";
import { button, complain, field, rename, toast } from "../parts.js";

/** What one request takes: the router's own limit of lines, and half of its limit of bytes. */
const LINES_MAX = 10_000;
const BYTES_MAX = 16 * 1024 * 1024;
const LINE_END = 10;
/** A time below this, of 1973, is one in seconds, they say until the year 5138. */
const MILLISECONDS_MIN = 1e11;
const DAY_MS = 86_400_000;

/** Sends a JSONL file and shows how far the router is. */
export function importFile(key, name) {
  return dialog("Import memories", (close) => {
    const file = el("input", { type: "file", accept: ".jsonl,.ndjson,.txt,application/x-ndjson" });
    const bar = el("progress", { "aria-label": "Imported", max: "1", hidden: true });
    const said = el("p", { role: "status", class: "soft" });
    const go = button("Import", { kind: "primary", type: "submit" });
    // The file that is wanted although its times are odd.
    let wanted = null;
    file.addEventListener("change", () => {
      complain(file, "");
      rename(go, "Import");
    });
    return {
      body: [
        el("p", {}, "Into the vault of ", el("strong", {}, name), ". One JSON object a line: ", el("code", {}, '{"content", "role"?, "timestamp"?, "session_id"?}'), ", as an export is."),
        field("JSONL file", file, { note: "A text that is there already is not stored twice." }),
        bar,
        said,
      ],
      actions: [button("Close", { onclick: () => close() }), go],
      onsubmit: async () => {
        if (!file.files.length) {
          complain(file, "Choose a file first.");
          return;
        }
        complain(file, "");
        bar.hidden = false;
        bar.removeAttribute("value");
        said.textContent = "Reading…";
        try {
          const [chosen] = file.files;
          const parts = await cut(chosen);
          const odd = chosen === wanted ? "" : await oddTime(parts);
          if (odd) {
            wanted = chosen;
            rename(go, "Import anyway");
            throw new Error(odd);
          }
          said.textContent = "Sending…";
          const done = await send(key, parts, bar, said);
          go.disabled = true;
          // Nobody sees a dialog that was left.
          if (!said.isConnected) toast(done);
        } catch (error) {
          if (!said.isConnected) throw error;
          bar.hidden = true;
          said.textContent = "";
          complain(file, [error.message, error.hint].filter(Boolean).join(". "));
        }
      },
    };
  });
}

/** What is read of the file. Nothing is, once it is another than was chosen. */
async function taken(reading) {
  try {
    return await reading;
  } catch {
    throw new Error("The file has changed: choose it again");
  }
}

/** Sends part after part; returns what it comes to. */
async function send(key, parts, bar, said) {
  const sum = { lines: parts.reduce((all, part) => all + part.lines, 0), before: 0, stored: 0, duplicates: 0, failed: 0 };
  for (const part of parts) {
    try {
      // Read here: of a file that is another by now, a request says only that it failed.
      const body = new Blob([await taken(part.blob.arrayBuffer())]);
      const answer = await ask("POST", path(["keys", key, "memories", "import"]), { body });
      if (!answer.ok) throw await refusal(answer);
      let whole = false;
      for await (const line of lines(answer)) if (line.trim()) whole = follow(JSON.parse(line), sum, bar, said);
      if (!whole) throw new Error("The answer broke off");
    } catch (error) {
      if (!sum.before) throw error;
      throw new Error(`${error.message} (counted from line ${format.whole(sum.before + 1)}; all before it are imported)`);
    }
    sum.before += part.lines;
  }
  said.textContent = `Done: ${format.whole(sum.stored)} stored, ${format.whole(sum.duplicates)} known already${sum.failed ? `, ${format.whole(sum.failed)} failed` : ""}.`;
  return said.textContent;
}

/** What is odd about the first time that is hardly one in milliseconds; nothing where all are. The router takes any number. */
async function oddTime(parts) {
  let before = 0;
  for (const part of parts) {
    const lines = (await taken(part.blob.text())).split("\n");
    for (const [at, line] of lines.entries()) {
      const time = timeOf(line);
      if (typeof time !== "number") continue;
      const why = time < MILLISECONDS_MIN ? "it looks like seconds" : time > Date.now() + DAY_MS ? "it has not come yet" : "";
      if (why) return `Line ${format.whole(before + at + 1)}: its timestamp ${time} is of ${new Date(time).getFullYear() || "no year"}: ${why}. Times are in milliseconds`;
    }
    before += part.lines;
  }
  return "";
}

function timeOf(line) {
  try {
    return JSON.parse(line).timestamp;
  } catch {
    // What is no JSON, the router says with its place.
    return null;
  }
}

/** Takes one of the router's words about a part; tells whether it was the last. */
function follow(step, sum, bar, said) {
  if (step.status === "failed") throw new Error(step.error);
  const { processed } = step.stats ?? step;
  bar.max = Math.max(sum.lines, 1);
  bar.value = sum.before + processed;
  said.textContent = `${format.whole(bar.value)} of ${format.whole(sum.lines)}`;
  for (const count of ["stored", "duplicates", "failed"]) sum[count] += step.stats?.[count] ?? 0;
  return Boolean(step.stats);
}

/** The file in parts of whole lines, each with how many these are; at least one part. */
async function cut(file) {
  const parts = [];
  let [from, lines, at] = [0, 0, 0];
  const end = (to) => {
    parts.push({ blob: file.slice(from, to), lines });
    [from, lines] = [to, 0];
  };
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await taken(reader.read());
    if (done) break;
    for (let found = value.indexOf(LINE_END); found >= 0; found = value.indexOf(LINE_END, found + 1)) {
      lines += 1;
      if (lines === LINES_MAX || at + found + 1 - from >= BYTES_MAX) end(at + found + 1);
    }
    at += value.length;
  }
  if (from < at || !parts.length) {
    lines += 1;
    end(at);
  }
  return parts;
}
