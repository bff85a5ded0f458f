// What happens now: asked every two seconds while the page is looked at.

import { get } from "../api.js";
import { share, sparkline, timeline } from "../chart.js";
import { el, replace } from "../dom.js";
import * as format from "../format.js";
import { badge, empty, facts, failure, loading, notice, pageHead, panel, table } from "../parts.js";

const PAUSE_MS = 2000;
/** How many of the series' seconds the chart shows. */
const SECONDS = 300;
const REQUESTS_SHOWN = window.matchMedia("(max-width: 760px)").matches ? 6 : 12;

export function page({ signal }) {
  const place = el("div", { class: "stack" }, loading());
  const state = el("span", {}, "");
  const kept = { history: [], chart: null, view: null, names: new Map() };
  // Without names the ids do.
  get("/keys", signal).then(({ keys }) => keys.forEach((key) => key.name && kept.names.set(key.id, key.name)), () => {});
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const [overview, requests] = await Promise.all([get("/overview", signal), get(`/requests?limit=${REQUESTS_SHOWN}`, signal)]);
      if (signal.aborted) return;
      remember(kept.history, overview);
      replace(state, overview.draining ? badge("Draining", "warn", true) : badge("Serving", "good", true));
      draw(place, kept, overview, requests.requests);
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      replace(state, badge("No answer", "bad", true));
      if (!kept.view) replace(place, failure(error));
    }
  };
  const timer = setInterval(refresh, PAUSE_MS);
  const seen = () => !document.hidden && refresh();
  document.addEventListener("visibilitychange", seen, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));
  refresh();
  return [pageHead("Overview", { tools: [state] }), place];
}

/** What has no series of its own is remembered here, for the small charts. */
function remember(history, overview) {
  history.push({ firstByte: overview.latency_ms?.first_byte?.p95 ?? 0, router: overview.latency_ms?.router?.p95 ?? 0 });
  if (history.length > 60) history.shift();
}

function draw(place, kept, overview, requests) {
  if (!kept.view) {
    kept.view = { tiles: el("div", { class: "tiles" }), left: el("div", { class: "stack" }), right: el("div", { class: "stack" }) };
    kept.chart = timeline({
      label: "Requests and errors per second over the last five minutes",
      lines: [
        { name: "Requests/s", series: "c1", area: true, values: [] },
        { name: "Errors/s", series: "bad", values: [] },
      ],
      at: () => "",
      format: format.short,
    });
    kept.lists = { providers: el("div"), requests: el("div"), workers: el("div", { class: "workers" }) };
    replace(
      kept.view.left,
      panel("Traffic", kept.chart.element, { tools: [el("span", { class: "faint small" }, "last five minutes")] }),
      panel("Latency", kept.latency = el("div"), { padded: false, tools: [el("span", { class: "faint small" }, "last five minutes")] }),
      panel("Providers", kept.lists.providers, { padded: false, tools: [el("span", { class: "faint small" }, "since start")] }),
      panel("Workers", kept.lists.workers, { tools: [el("span", { class: "faint small" }, "since start")] }),
    );
    replace(place, kept.notices = el("div", { class: "stack tight" }), kept.view.tiles, el("div", { class: "split" }, kept.view.left, kept.view.right), panel("Last requests", kept.lists.requests, { padded: false }));
  }
  renew(kept.notices, troubles(overview));
  renew(kept.view.tiles, tiles(overview, kept.history));
  kept.chart.update(traffic(overview));
  renew(kept.latency, latencyTable(overview.latency_ms));
  renew(kept.lists.providers, providerTable(overview.by_provider));
  renew(kept.lists.requests, requestTable(requests, kept.names));
  renew(kept.lists.workers, workers(overview));
  renew(kept.view.right, errors(overview), snapshot(overview), router(overview));
  kept.notices.hidden = !kept.notices.childElementCount;
}

/** Puts in new content, but not under the focus or a selection of the reader. */
function renew(place, ...content) {
  const selection = document.getSelection();
  const busy = place.contains(document.activeElement) || (!selection.isCollapsed && place.contains(selection.anchorNode));
  if (!busy) replace(place, ...content);
}

/** Whatever an operator should look at first. */
function troubles({ snapshot: keys, memory, usage, counts }) {
  return [
    keys.last_refusal && notice("warn", "alert", `The key snapshot was refused: ${format.refused(keys.last_refusal)}. The keys loaded before keep serving.`),
    memory && memory.state !== "open" && notice("bad", "alert", `Memory is not open (${memory.state})${memory.reason ? `: ${memory.reason}` : ""}. Requests pass without it.`),
    usage && usage.state !== "open" && notice("bad", "alert", `The usage store is not open (${usage.state})${usage.reason ? `: ${usage.reason}` : ""}. Requests pass; their usage waits in memory.`),
    counts.panics > 0 && notice("bad", "alert", `${format.count(counts.panics, "panic")} caught since start. The log says where.`),
  ];
}

function tile(label, figure, unit, note, chart) {
  return el(
    "section",
    { class: "panel tile" },
    el("h2", { class: "label" }, label),
    el("div", { class: "figure" }, figure, unit && el("span", { class: "unit" }, unit)),
    el("div", { class: "note" }, note),
    chart,
  );
}

function tiles({ requests_per_second: rate, latency_ms: latency, counts, series }, history) {
  const recent = (values = []) => [...Array(Math.max(0, 120 - values.length)).fill(0), ...values.slice(-120)];
  const [wait, waitUnit] = format.milliseconds(latency.first_byte.p95).split(" ");
  const [own, ownUnit] = format.milliseconds(latency.router.p95).split(" ");
  return [
    tile("Requests per second", format.short(rate), "", `${format.whole(counts.requests)} since start`, sparkline(recent(series.requests))),
    tile("First byte, p95", wait, waitUnit, `p50 ${format.milliseconds(latency.first_byte.p50)}, with the provider`, sparkline(history.map((one) => one.firstByte), { series: "c2", top: 1.5 * latency.first_byte.p95 })),
    tile("Router's own time, p95", own, ownUnit, `p50 ${format.milliseconds(latency.router.p50)}`, sparkline(history.map((one) => one.router), { series: "c3", top: 1.5 * latency.router.p95 })),
    tile("Streams now", format.whole(counts.streams), "", `${format.whole(counts.in_flight)} in flight, ${format.count(counts.connections, "connection")}`, sparkline(recent(series.streams), { top: 1 })),
  ];
}

function traffic({ series }) {
  const pad = (values) => [...Array(Math.max(0, SECONDS - values.length)).fill(0), ...values.slice(-SECONDS)];
  return {
    lines: [
      { name: "Requests/s", series: "c1", area: true, values: pad(series.requests) },
      { name: "Errors/s", series: "bad", values: pad(series.errors) },
    ],
    at: (index) => format.clock(series.until_ms - (SECONDS - 1 - index) * 1000 * series.step_s),
  };
}

function latencyTable(latency) {
  const rows = [["Router's own time", latency.router], ["First byte", latency.first_byte], ["Whole answer", latency.total]];
  const at = (name) => ({ name, number: true, cell: ([, values]) => format.milliseconds(values?.[name]) });
  return table("Latency", [
    { name: "Phase", head: true, cell: ([name]) => name },
    at("p50"),
    at("p95"),
    at("p99"),
    { name: "Measured", number: true, kind: "extra", cell: ([, values]) => format.short(values?.count) },
  ], rows, { cards: false });
}

function providerTable(providers) {
  if (!providers.length) return empty("overview", "No requests yet", "Each provider appears here with its first request.");
  const most = Math.max(...providers.map((one) => one.requests));
  return table("Providers", [
    { name: "Provider", head: true, cell: (row) => [row.provider === "none" ? "the router itself" : row.provider, el("span", { class: "sub" }, share(row.requests / most))] },
    { name: "Requests", number: true, cell: (row) => format.short(row.requests) },
    { name: "Errors", number: true, cell: (row) => [format.short(row.errors), row.errors > 0 && el("span", { class: "sub" }, format.percent(row.errors, row.requests))] },
    { name: "First byte p50", number: true, kind: "extra", cell: (row) => format.milliseconds(row.first_byte_ms?.p50) },
    { name: "p95", number: true, cell: (row) => format.milliseconds(row.first_byte_ms?.p95) },
  ], providers, { cards: false });
}

const SIDES = [["caller", "Caller", "c3"], ["router", "Router", "c2"], ["provider", "Provider", "bad"]];

function errors({ errors: sides, counts }) {
  const sum = SIDES.reduce((all, [id]) => all + (sides[id] ?? 0), 0);
  const rows = SIDES.map(([id, name, series]) => el(
    "div",
    {},
    el("div", { class: "row ends" }, name, el("strong", {}, format.whole(sides[id]))),
    share(sides[id] / Math.max(sum, 1), series),
  ));
  return panel("Errors by side", el("div", { class: "stack tight" }, rows, el("p", { class: "faint small" }, sum ? `${format.percent(sum, counts.requests)} of all requests since start` : "None since start")));
}

function snapshot({ snapshot: keys, counts }) {
  return panel("Key snapshot", facts([
    ["State", keys.last_refusal ? badge("Newer file refused", "warn", true) : badge("In use", "good", true)],
    ["Generation", format.whole(keys.generation)],
    ["Loaded", el("span", { title: format.moment(keys.loaded_at) }, format.ago(keys.loaded_at))],
    ["Memory keys", `${format.whole(counts.keys_active)} of ${format.whole(counts.keys)} active`],
    ["Accounts", format.whole(counts.accounts)],
    ["Provider keys", format.whole(counts.provider_keys)],
    ["Refused files", format.whole(keys.refusals)],
  ]), { tools: [el("a", { href: "#/settings", class: "small" }, "Settings")] });
}

function router({ version, uptime_s: up, driver, counts, data_url: url, memory, usage }) {
  const store = (state, detail) => (state ? (state.state === "open" ? badge("Open", "good", true) : badge(state.state, "bad", true)) : detail);
  return panel("Router", facts([
    ["Address", el("code", {}, url ?? "–")],
    ["Version", version],
    ["Running for", format.duration(up)],
    ["Driver", driver],
    ["RAM", format.bytes(counts.rss_bytes)],
    ["Descriptors", format.whole(counts.fds)],
    ["Memory", store(memory, "Off")],
    memory?.state === "open" && ["Hot vaults", `${format.whole(memory.hot_vaults)}, ${format.bytes(memory.bytes)}`],
    memory?.dropped > 0 && ["Memories dropped", format.whole(memory.dropped)],
    ["Usage", store(usage, "Off")],
    usage?.dropped > 0 && ["Usage dropped", format.whole(usage.dropped)],
  ]));
}

function workers({ workers_list: list }) {
  const sum = list.reduce((all, one) => all + one.requests, 0);
  return list.map((one) => el(
    "div",
    {},
    el("div", { class: "row ends" }, `Worker ${one.worker}`, el("span", { class: "soft" }, `${format.short(one.requests)} requests, ${format.short(one.connections)} open`)),
    share(one.requests / Math.max(sum, 1)),
  ));
}

function statusBadge({ status, side }) {
  if (status === null) return badge("caller left");
  return badge(String(status), side ? (side === "caller" ? "warn" : "bad") : "good");
}

function tokens(row) {
  const shown = `${format.short(row.input_tokens)} / ${format.short(row.output_tokens)}`;
  return row.estimated ? el("span", { title: "estimated" }, `~${shown}`, el("span", { class: "unseen" }, " (estimated)")) : shown;
}

function requestTable(requests, names) {
  if (!requests.length) return empty("overview", "No requests yet", "The newest requests appear here as they end.");
  return table("Last requests", [
    { name: "Route", head: true, cell: (row) => [el("span", { class: "mono" }, row.route), el("span", { class: "sub mono" }, row.id)] },
    { name: "Time", cell: (row) => el("span", { class: "nowrap" }, format.clock(row.at_ms)) },
    { name: "Status", cell: statusBadge },
    { name: "Model", cell: (row) => [el("bdi", {}, row.model ?? "–"), row.provider && el("span", { class: "sub" }, row.provider)] },
    { name: "Key", cell: (row) => (row.key ? el("a", { class: names.has(row.key) ? undefined : "mono small", href: `#/usage?key=${encodeURIComponent(row.key)}` }, names.get(row.key) ?? row.key) : "–") },
    { name: "Tokens", number: true, cell: tokens },
    { name: "Router", number: true, kind: "extra", cell: (row) => format.milliseconds(row.overhead_ms) },
    { name: "First byte", number: true, kind: "extra", cell: (row) => format.milliseconds(row.first_byte_ms) },
    { name: "Total", number: true, cell: (row) => format.milliseconds(row.total_ms) },
  ], requests);
}
