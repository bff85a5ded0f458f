// Charts out of SVG elements. Each one has a label that says in words what it shows; the tables beside them hold the numbers.

import { add, el, replace, svg } from "./dom.js";

/** A line with its area, without axes, as wide as its place. */
export function sparkline(values, { series = "c1", label, height = 40, top } = {}) {
  if (values.length === 1) return sparkline([values[0], values[0]], { series, label, height, top });
  const most = Math.max(top ?? 0, ...values, 1e-9);
  const width = Math.max(values.length - 1, 1);
  const points = values.map((value, at) => `${at},${(height - 1 - (value / most) * (height - 5)).toFixed(2)}`);
  const line = points.length > 1 ? points.join(" ") : `0,${height - 1} ${width},${height - 1}`;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, height, preserveAspectRatio: "none", role: label ? "img" : undefined, "aria-label": label, "aria-hidden": label ? undefined : "true" },
    svg("polygon", { class: `area ${series}`, points: `0,${height} ${line} ${width},${height}` }),
    svg("polyline", { class: `stroke ${series}`, points: line }),
  );
}

/** A bar that fills up to its share. */
export function share(part, series = "c1") {
  const filled = Math.max(0, Math.min(1, part || 0)) * 100;
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "track", width: 100, height: 6, rx: 1 }),
    filled > 0 && svg("rect", { class: series, width: Math.max(filled, 0.8), height: 6, rx: 1 }),
  );
}

/** The next round number above: 1, 2 or 5 times a power of ten. */
function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

/** A place that is drawn anew whenever its width changes. */
function responsive(label, height, draw) {
  const place = el("div", { class: "chart" });
  const picture = svg("svg", { height, role: "img", "aria-label": label });
  add(place, picture);
  let width = 0;
  const redraw = () => {
    const now = Math.floor(place.clientWidth);
    if (now > 0) {
      width = now;
      picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
      replace(picture, draw(width, place));
    }
  };
  new ResizeObserver(() => place.clientWidth !== width && redraw()).observe(place);
  return { place, redraw };
}

/** The lines and numbers at the left; `most` is rounded up to `top`. */
function axis(most, width, box, format) {
  const top = ceiling(most);
  const steps = top >= 1 && top < 2 && format.whole ? [0, 1] : [0, 0.5, 1];
  const y = (value) => box.bottom - (value / top) * (box.bottom - box.top);
  const marks = steps.map((step) => {
    const at = Math.round(y(step * top)) + 0.5;
    return [
      svg("line", { class: "grid-line", x1: box.left, x2: width - box.right, y1: at, y2: at }),
      svg("text", { x: box.left - 8, y: at + 3.5, "text-anchor": "end" }, format(step * top)),
    ];
  });
  return { y, marks };
}

/**
 * Lines over time. `lines`: `{ name, series, values, area? }`, all equally long; `at(index)` names a point. `update`
 * shows other values.
 */
export function timeline({ label, height = 200, lines, at, format }) {
  let shown = { lines, at };
  const box = { left: 44, right: 8, top: 10, bottom: height - 22 };
  const { place, redraw } = responsive(label, height, (width, own) => {
    const count = Math.max(...shown.lines.map((line) => line.values.length), 2);
    const { y, marks } = axis(Math.max(0, ...shown.lines.flatMap((line) => line.values)), width, box, format);
    const x = (index) => box.left + (index / (count - 1)) * (width - box.left - box.right);
    const drawn = shown.lines.map((line) => {
      const points = line.values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
      if (!points) return null;
      return [
        line.area && svg("polygon", { class: `area ${line.series}`, points: `${x(0)},${box.bottom} ${points} ${x(line.values.length - 1)},${box.bottom}` }),
        svg("polyline", { class: `stroke ${line.series}`, points }),
      ];
    });
    const names = [0, Math.floor((count - 1) / 2), count - 1].map((index, place) => svg(
      "text",
      { x: x(index), y: height - 5, "text-anchor": ["start", "middle", "end"][place] },
      shown.at(index),
    ));
    const cursor = svg("line", { class: "cursor-line", y1: box.top, y2: box.bottom, visibility: "hidden" });
    const hit = svg("rect", { class: "hit", x: box.left, y: 0, width: Math.max(0, width - box.left - box.right), height: box.bottom, "pointer-events": "all" });
    hit.addEventListener("pointermove", (event) => {
      const inside = event.clientX - own.getBoundingClientRect().left - box.left;
      const index = Math.max(0, Math.min(count - 1, Math.round((inside / (width - box.left - box.right)) * (count - 1))));
      for (const end of ["x1", "x2"]) cursor.setAttribute(end, x(index));
      cursor.setAttribute("visibility", "visible");
      readout(own, x(index), shown.at(index), shown.lines.map((line) => [line.series, line.name, format(line.values[index] ?? 0)]));
    });
    hit.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      readout(own);
    });
    return [marks, drawn, names, cursor, hit];
  });
  const keys = legend(lines.map((line) => [line.series, line.name]));
  return {
    element: el("figure", { class: "stack tight" }, place, keys),
    update: (next) => {
      shown = next;
      redraw();
    },
  };
}

/** Stacked bars. `groups`: `{ name, values }` with a value per series; `series`: `{ name, series }`. */
export function bars({ label, height = 240, groups, series, format }) {
  const box = { left: 52, right: 4, top: 10, bottom: height - 24 };
  const sums = groups.map((group) => group.values.reduce((sum, value) => sum + value, 0));
  const { place, redraw } = responsive(label, height, (width, own) => {
    const { y, marks } = axis(Math.max(0, ...sums), width, box, format);
    const step = (width - box.left - box.right) / Math.max(groups.length, 1);
    const thick = Math.max(1, Math.min(44, step * 0.72));
    const every = Math.ceil(groups.length / Math.max(1, Math.floor((width - box.left) / 64)));
    const drawn = groups.map((group, index) => {
      const left = box.left + index * step;
      let reached = 0;
      const parts = group.values.map((value, at) => {
        if (!value) return null;
        const [from, to] = [y(reached), y(reached + value)];
        reached += value;
        return svg("rect", { class: series[at].series, x: (left + (step - thick) / 2).toFixed(1), width: thick.toFixed(1), y: to.toFixed(1), height: Math.max(0.5, from - to).toFixed(1) });
      });
      const hit = svg("rect", { class: "hit", x: left, y: box.top, width: step, height: box.bottom - box.top });
      hit.addEventListener("pointerenter", () => readout(own, left + step / 2, group.name, [
        ...group.values.map((value, at) => value && [series[at].series, series[at].name, format(value)]).filter(Boolean).reverse(),
        series.length > 1 && [null, "All", format(sums[index])],
      ].filter(Boolean)));
      hit.addEventListener("pointerleave", () => readout(own));
      const name = index % every === 0 && svg("text", { x: left + step / 2, y: box.bottom + 17, "text-anchor": "middle" }, group.short ?? group.name);
      return [parts, name, hit];
    });
    return [marks, drawn];
  });
  redraw();
  return el("figure", { class: "stack tight" }, place, series.length > 1 && legend(series.map((one) => [one.series, one.name])));
}

export function legend(entries) {
  return el("ul", { class: "legend" }, entries.map(([series, name, value]) => el(
    "li",
    {},
    svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" }, series && svg("rect", { class: series, width: 10, height: 10, rx: 2 })),
    el("bdi", {}, name),
    value !== undefined && el("strong", {}, value),
  )));
}

/** What the pointer is on; without a title it goes away. */
function readout(place, x, title, entries) {
  place.querySelector(".readout")?.remove();
  if (!title) return;
  const box = el("div", { class: "readout", "aria-hidden": "true" }, el("strong", {}, title), legend(entries));
  add(place, box);
  const room = place.clientWidth - box.offsetWidth;
  box.style.transform = `translateX(${Math.max(0, Math.min(room, x > place.clientWidth / 2 ? x - box.offsetWidth - 12 : x + 12))}px)`;
}
