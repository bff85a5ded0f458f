// What was used: by day, key, model or provider, as a chart, a table and a CSV file.

import { ask, get, path, refusal, save } from "../api.js";
import { bars } from "../chart.js";
import { add, el, replace } from "../dom.js";
import * as format from "../format.js";
import { keyPicker } from "../key_picker.js";
import { badge, button, choice, empty, input, pageHead, panel, select, show, table } from "../parts.js";

const DAY_MS = 86_400_000;
const SPANS = [["7", "7 days"], ["30", "30 days"], ["90", "90 days"], ["own", "Dates"]];
const GROUPS = [["provider", "Provider"], ["model", "Model"], ["key", "Key"], ["day", "Day"]];
const MEASURES = {
  requests: ["Requests", (row) => row.requests, format.short],
  tokens: ["Tokens", (row) => row.input_tokens + row.output_tokens, format.short],
  cost: ["Cost", (row) => row.cost ?? 0, format.money],
};
const SERIES = ["c1", "c2", "c3", "c4", "c5", "c6"];
const PATTERN = /^\d{4}-\d{2}-\d{2}$/;
/** There is nothing before it; who types a year is there on the way. */
const FIRST_DAY = "1970-01-01";
/** Rows that are drawn at once where there are many more. */
const ROWS = 100;
/** Days that the chart shows whether something was used on them or not. */
const DAYS_DRAWN = 400;

const isoDay = (time) => new Date(time).toISOString().slice(0, 10);

export function page({ query, signal, note }) {
  const state = { span: "30", since: isoDay(Date.now() - 29 * DAY_MS), until: isoDay(Date.now()), group: "provider", measure: "tokens", key: query.get("key") ?? "", known: null, names: new Map() };
  const place = el("div", { class: "stack" });
  const dates = el("span", { class: "row", hidden: true });
  const since = input({ type: "date", value: state.since, "aria-label": "From", max: state.until });
  const until = input({ type: "date", value: state.until, "aria-label": "Until", max: state.until });
  const keys = select([["", "All keys"]], "", { "aria-label": "Key" });
  const picker = keyPicker(keys, { first: [["", "All keys"]] });

  state.known = picker.known;

  const load = () => show(place, async () => {
    const { group } = state;
    const groups = group === "day" ? ["day"] : ["day", group];
    const wanted = { since: state.since, until: state.until, key: state.key };
    const [daily, grouped] = await Promise.all([
      get(path(["usage"], { ...wanted, by: groups.join(",") }), signal),
      get(path(["usage"], { ...wanted, by: group }), signal),
    ]);
    // The list of what was grouped otherwise is not drawn: another one is on its way.
    if (group !== state.group) return null;
    if (!daily.rows.length) return el("div", { class: "panel" }, empty("usage", "Nothing was used in this time", "Every request with a memory key counts here within a second."));
    return draw(state, daily, grouped);
  });
  const span = (value) => {
    state.span = value;
    dates.hidden = value !== "own";
    if (value !== "own") {
      state.until = isoDay(Date.now());
      state.since = isoDay(Date.now() - (Number(value) - 1) * DAY_MS);
      since.value = state.since;
      until.value = state.until;
      load();
    }
  };
  const own = () => {
    if (!PATTERN.test(since.value) || !PATTERN.test(until.value) || since.value > until.value || since.value < FIRST_DAY) return;
    state.since = since.value;
    state.until = until.value;
    load();
  };
  since.addEventListener("change", own);
  until.addEventListener("change", own);
  keys.addEventListener("change", () => {
    state.key = keys.value;
    note("usage", { key: state.key });
    load();
  });
  const named = picker.load(state.key, () => "", signal).catch((error) => {
    // A key that is gone can still have used something.
    if (error.status === 404) keys.append(el("option", { value: state.key }, state.key));
    keys.value = state.key;
  });
  named.then(load);

  const csv = async () => {
    const by = state.group === "day" ? "day" : `day,${state.group}`;
    const answer = await ask("GET", path(["usage"], { since: state.since, until: state.until, key: state.key, by, format: "csv" }));
    if (!answer.ok) throw await refusal(answer);
    await save(answer, `usage-${state.since}-${state.until}.csv`);
  };
  replace(dates, since, el("span", { class: "faint" }, "to"), until);
  return [
    pageHead("Usage", { tools: [button("Download CSV", { icon: "download", onclick: csv })] }),
    el(
      "div",
      { class: "row wide" },
      choice("Time", SPANS, state.span, span),
      dates,
      choice("Group by", GROUPS, state.group, (value) => {
        state.group = value;
        load();
      }),
      el("span", { class: "inline-field" }, keys, picker.finder),
    ),
    place,
  ];
}

function draw(state, daily, grouped) {
  state.names = new Map(grouped.rows.map((row) => [row.key, row.key_name]));
  const chart = el("div");
  const redraw = () => replace(chart, usageChart(state, daily));
  redraw();
  const measures = Object.entries(MEASURES).map(([id, [name]]) => [id, name]);
  return [
    totals(daily.total),
    panel("By day", chart, { tools: [choice("Show", measures, state.measure, (value) => {
      state.measure = value;
      redraw();
    })] }),
    panel(`By ${state.group}`, usageTable(state, grouped), { padded: false }),
  ];
}

function totals(total) {
  const tile = (label, figure, note) => el("div", { class: "panel tile" }, el("div", { class: "label" }, label), el("div", { class: "figure" }, figure), el("div", { class: "note" }, note));
  return el(
    "div",
    { class: "tiles" },
    tile("Requests", format.short(total.requests), `${format.whole(total.errors)} errors, ${format.whole(total.aborted)} aborted`),
    tile("Tokens in", format.short(total.input_tokens), `${format.short(total.cached_tokens)} cached by the provider, ${format.short(total.memory_tokens_recalled)} recalled`),
    tile("Tokens out", format.short(total.output_tokens), `${format.short(total.reasoning_tokens)} reasoning${total.estimated_requests ? `, ${format.count(total.estimated_requests, "request")} estimated` : ""}`),
    tile("Cost", total.cost === null ? "–" : format.money(total.cost), total.unpriced_requests ? `${format.count(total.unpriced_requests, "request")} without a known price` : "by the price list"),
  );
}

/** The name of a row's group, as people know it; that of a key stands in its own row only. */
function nameOf(state, row) {
  const value = row[state.group];
  // What callers made of nothing but white space is shown with its ends.
  if (state.group !== "key") return value ? (value.trim() ? value : `“${value}”`) : "the router itself";
  const last4 = state.known.get(value)?.last4;
  return row.key_name || state.names.get(value) || (last4 ? `…${last4}` : value);
}

function usageChart(state, { rows }) {
  const [title, measure, shown] = MEASURES[state.measure];
  const days = [];
  const [from, to] = drawn(state, rows);
  for (let at = from; at <= to; at += DAY_MS) days.push(isoDay(at));
  const sums = new Map();
  for (const row of rows) {
    const id = state.group === "day" ? "" : row[state.group];
    sums.set(id, (sums.get(id) ?? 0) + measure(row));
  }
  // The largest have a colour each, all others share the last one.
  const order = [...sums].sort((one, other) => other[1] - one[1]).map(([id]) => id);
  const apart = order.length > SERIES.length ? order.slice(0, SERIES.length - 1) : order;
  const series = apart.map((id, at) => ({ name: state.group === "day" ? title : nameOf(state, { [state.group]: id }), series: SERIES[at] }));
  if (apart.length < order.length) series.push({ name: `${order.length - apart.length} others`, series: SERIES.at(-1) });
  const places = new Map(apart.map((id, at) => [id, at]));
  const byDay = new Map(days.map((day) => [day, Array(series.length).fill(0)]));
  for (const row of rows) {
    const at = places.get(state.group === "day" ? "" : row[state.group]) ?? series.length - 1;
    const values = byDay.get(row.day);
    if (values) values[at] += measure(row);
  }
  const groups = days.map((day) => ({ name: day, short: day.slice(5), values: byDay.get(day) }));
  return bars({ label: `${title} by day${state.group === "day" ? "" : ` and ${state.group}`}, ${state.since} to ${state.until}. The table below has the numbers.`, groups, series, format: shown });
}

/** From when until when the chart goes: of a longer time, only where there is something. */
function drawn({ since, until }, rows) {
  const [from, to] = [Date.parse(since), Date.parse(until)];
  if (to - from <= DAYS_DRAWN * DAY_MS) return [from, to];
  const used = rows.map(({ day }) => day).sort();
  return [Date.parse(used[0]), Date.parse(used.at(-1))];
}

/** A sum that leaves requests out says so, as on the command line. */
function cost({ cost: sum, unpriced_requests: unpriced }) {
  if (!unpriced) return format.money(sum);
  const title = `${format.count(unpriced, "request")} without a known price`;
  return el("span", { title, class: sum === null ? "faint" : undefined }, sum === null ? "–" : `${format.money(sum)} +?`, el("span", { class: "unseen" }, ` (${title})`));
}

/** A sum with estimates in it says so, as on the command line. */
function tokens(row, name) {
  const shown = format.whole(row[name]);
  if (!row.estimated_requests) return shown;
  const title = `${format.count(row.estimated_requests, "request")} estimated`;
  return el("span", { title }, `~${shown}`, el("span", { class: "unseen" }, ` (${title})`));
}

/** Answers that their callers left, which are no errors. */
const aborted = (row) => row.aborted > 0 && el("span", { class: "sub" }, `${format.whole(row.aborted)} aborted`);

function usageTable(state, { rows, total }) {
  const sorted = state.group === "day"
    ? [...rows].sort((one, other) => other.day.localeCompare(one.day))
    : [...rows].sort((one, other) => other.input_tokens + other.output_tokens - one.input_tokens - one.output_tokens || other.requests - one.requests);
  const title = GROUPS.find(([id]) => id === state.group)[1];
  const number = (name, value, shown = format.whole) => ({ name, number: true, cell: (row) => shown(value(row)) });
  const columns = [
    { name: title, head: true, cell: (row) => [el("bdi", {}, nameOf(state, row)), state.group === "key" && el("span", { class: "sub mono" }, row.key)] },
    number("Requests", (row) => row.requests),
    { name: "Errors", number: true, cell: (row) => [row.errors ? badge(format.whole(row.errors), "bad") : "0", aborted(row)] },
    { name: "Tokens in", number: true, cell: (row) => tokens(row, "input_tokens") },
    number("Cached", (row) => row.cached_tokens),
    { name: "Tokens out", number: true, cell: (row) => tokens(row, "output_tokens") },
    number("Recalled", (row) => row.memory_tokens_recalled),
    number("Provider p50", (row) => row.provider_ms?.p50, format.milliseconds),
    number("p95", (row) => row.provider_ms?.p95, format.milliseconds),
    { name: "Cost", number: true, cell: cost },
  ];
  const foot = {
    [title]: "All",
    Requests: format.whole(total.requests),
    Errors: [format.whole(total.errors), aborted(total)],
    "Tokens in": tokens(total, "input_tokens"),
    Cached: format.whole(total.cached_tokens),
    "Tokens out": tokens(total, "output_tokens"),
    Recalled: format.whole(total.memory_tokens_recalled),
    Cost: cost(total),
  };
  const draw = (rows) => table(`Usage by ${state.group}`, columns, rows, { foot: sorted.length > 1 ? foot : undefined });
  if (sorted.length <= 2 * ROWS) return draw(sorted);
  const place = el("div", {}, draw(sorted.slice(0, ROWS)));
  add(place, el("div", { class: "panel-body" }, button(`Show all ${format.whole(sorted.length)}`, { onclick: () => replace(place, draw(sorted)) })));
  return place;
}
