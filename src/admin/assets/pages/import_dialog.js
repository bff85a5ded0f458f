// Bringing a file of memories into a key's vault, however large it is, with a word about how far it is.

import { ask, lines, path, refusal } from "../api.js";
import { el } from "../dom.js";
import * as format from "../format.js";
import { dialog } from "../overlay.js";
import { button, complain, field, toast } from "../parts.js";

/** What one request takes: the router's own limit of lines, and half of its limit of bytes. */
const LINES_MAX = 10_000;
const BYTES_MAX = 16 * 1024 * 1024;
const LINE_END = 10;

/** Sends a JSONL file and shows how far the router is. */
export function importFile(key, name) {
  return dialog("Import memories", (close) => {
    const file = el("input", { type: "file", accept: ".jsonl,.ndjson,.txt,application/x-ndjson" });
    const bar = el("progress", { "aria-label": "Imported", max: "1", hidden: true });
    const said = el("p", { role: "status", class: "soft" });
    const go = button("Import", { kind: "primary", type: "submit" });
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
        said.textContent = "Sending…";
        try {
          const done = await send(key, file.files[0], bar, said);
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

/** Sends part after part; returns what it comes to. */
async function send(key, file, bar, said) {
  const parts = await cut(file);
  const sum = { lines: parts.reduce((all, part) => all + part.lines, 0), before: 0, stored: 0, duplicates: 0, failed: 0 };
  for (const part of parts) {
    try {
      const answer = await ask("POST", path(["keys", key, "memories", "import"]), { body: part.blob });
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
    const { done, value } = await reader.read();
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
