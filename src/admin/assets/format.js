// Numbers, times and sizes as people read them. Absent values are an en dash.

const NONE = "–";
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function absent(value) {
  return value === undefined || value === null || Number.isNaN(value);
}

/** 1,234,567 */
export function whole(value) {
  return absent(value) ? NONE : WHOLE.format(value);
}

/** 1.2M: at most four characters and a letter. */
export function short(value) {
  if (absent(value)) return NONE;
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (size >= unit) {
      const shown = value / (unit === 1e4 ? 1e3 : unit);
      return `${shown.toFixed(Math.abs(shown) >= 100 ? 0 : 1)}${letter}`;
    }
  }
  return Number.isInteger(value) ? WHOLE.format(value) : value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** Milliseconds in the unit that fits: 480 µs, 12.3 ms, 4.2 s. */
export function milliseconds(value) {
  if (absent(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 1) return `${Math.round(value * 1000)} µs`;
  if (value < 100) return `${value.toFixed(value < 10 ? 2 : 1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
}

/** 3.4 MiB */
export function bytes(value) {
  if (absent(value)) return NONE;
  let shown = value;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (shown < 1024) return `${unit === "B" ? shown : shown.toFixed(shown < 100 ? 1 : 0)} ${unit}`;
    shown /= 1024;
  }
  return `${shown.toFixed(1)} TiB`;
}

/** 12.5 % */
export function percent(part, of) {
  if (!of) return NONE;
  const value = (100 * part) / of;
  return `${value === 0 || value >= 10 ? Math.round(value) : value.toFixed(value < 0.1 ? 2 : 1)} %`;
}

/** Money in USD; small sums keep their digits. */
export function money(value) {
  if (absent(value)) return NONE;
  return `$${value.toFixed(value !== 0 && Math.abs(value) < 1 ? 4 : 2)}`;
}

/** Seconds as 3 d 4 h, 5 min, 12 s. */
export function duration(seconds) {
  if (absent(seconds)) return NONE;
  const parts = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];
  let rest = Math.max(0, Math.floor(seconds));
  const first = parts.findIndex(([unit]) => rest >= unit);
  if (first < 0) return "0 s";
  const shown = [];
  for (const [unit, word] of parts.slice(first, first + 2)) {
    const count = Math.floor(rest / unit);
    rest -= count * unit;
    if (count) shown.push(`${count} ${word}`);
  }
  return shown.join(" ");
}

/** Takes RFC 3339, seconds or milliseconds. */
export function toDate(value) {
  if (absent(value) || value === "") return null;
  const date = new Date(typeof value === "number" && value < 1e11 ? value * 1000 : value);
  return Number.isNaN(date.getTime()) ? null : date;
}

/** 2026-11-24 21:55, in the reader's zone. */
export function moment(value) {
  const date = toDate(value);
  if (!date) return NONE;
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

/** 21:55:04 */
export function clock(value) {
  const date = toDate(value);
  return date ? date.toTimeString().slice(0, 8) : NONE;
}

/** "3 min ago", "in 12 d". */
export function ago(value, now = Date.now()) {
  const date = toDate(value);
  if (!date) return NONE;
  const seconds = (now - date.getTime()) / 1000;
  if (Math.abs(seconds) < 5) return "just now";
  const length = duration(Math.abs(seconds)).split(" ").slice(0, 2).join(" ");
  return seconds < 0 ? `in ${length}` : `${length} ago`;
}

/** Why the key snapshot was refused, where it stands beside it that it was. */
export function refused(reason) {
  return reason.replace(/^key snapshot refused: /, "");
}

/** Without what takes no room: characters that join, part or turn others. */
export function visible(text) {
  return text.replace(/[\p{Cf}\p{Default_Ignorable_Code_Point}]/gu, "");
}

/** "1 key", "2 keys" */
export function count(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}
