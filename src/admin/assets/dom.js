// Builds elements. Text always goes in as text, never as markup: what the router stores may be hostile.

const SVG = "http://www.w3.org/2000/svg";

/** `el("button", { class: "quiet", onclick }, "Text", child)`: attributes, `on…` listeners, then children. */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, ...children);
  return element;
}

/** Appends nodes and texts, lists of them too; nothing for null, undefined and false. */
export function add(parent, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    parent.append(child instanceof Node ? child : String(child));
  }
  return parent;
}

/** Puts these in place of what is inside. */
export function replace(parent, ...children) {
  parent.replaceChildren();
  return add(parent, ...children);
}

let last = 0;
/** An id that no other element has. */
export function newId(word = "e") {
  last += 1;
  return `${word}-${last}`;
}

const ICONS = {
  overview: "M3 12h4l3-8 4 16 3-8h4",
  keys: "M15 14.500a5.500 5.500 0 1 0-5.300-4L3.500 16.700V20.500h3.800v-2.500h2.500v-2.500l1.700-1.700a5.500 5.500 0 0 0 3.500.7ZM16.500 7.500h.01",
  memory: "M4 6c0-1.660 3.580-3 8-3s8 1.340 8 3-3.580 3-8 3-8-1.340-8-3Zm0 0v12c0 1.660 3.580 3 8 3s8-1.340 8-3V6M4 12c0 1.660 3.580 3 8 3s8-1.340 8-3",
  playground: "M4 5h16v11H9l-5 4V5Zm5 5.500h6",
  usage: "M4 20V11m5.300 9V4m5.400 16v-7M20 20V8",
  settings: "M4 7h9m5 0h2M4 17h2m5 0h9M15.500 9.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5ZM8.500 19.500a2.500 2.500 0 1 0 0-5 2.500 2.500 0 0 0 0 5Z",
  close: "m6 6 12 12M18 6 6 18",
  copy: "M9 9h11v11H9V9Zm-4 6H4V4h11v1",
  check: "m5 12.500 4.500 4.500L19 7.500",
  plus: "M12 5v14M5 12h14",
  search: "M16 16l4.500 4.500M10.500 18a7.500 7.500 0 1 1 0-15 7.500 7.500 0 0 1 0 15Z",
  alert: "M12 8.500v4.500m0 3.500h.01M12 3 2.500 20h19L12 3Z",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8Zm0-14v2m0 16v2M4.930 4.930l1.410 1.410m11.320 11.320 1.410 1.410M2 12h2m16 0h2M6.340 17.660l-1.410 1.410M19.070 4.930l-1.410 1.410",
  moon: "M20.500 14.500A8.500 8.500 0 0 1 9.500 3.500a8.500 8.500 0 1 0 11 11Z",
  system: "M3 5h18v11H3V5Zm6 15h6m-3-4v4",
  leave: "M10 4H4v16h6m5-12 4 4-4 4m4-4H9",
  download: "M12 4v11m-4.500-4.500L12 15l4.500-4.500M4 20h16",
  upload: "M12 15V4M7.500 8.500 12 4l4.500 4.500M4 20h16",
  reload: "M20 5v5h-5M4 19v-5h5m10.500-4A8 8 0 0 0 5.500 7.500L4 10m16 4-1.500 2.500A8 8 0 0 1 4.500 14",
  trash: "M4 7h16M9.500 7V4h5v3m3 0-.8 13H7.300L6.500 7",
  more: "M5.500 12a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0m6 0a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0m6 0a.5.5 0 1 0 1 0 .5.5 0 1 0-1 0",
  stop: "M7 7h10v10H7V7Z",
  send: "M5 12h14m-6-6 6 6-6 6",
  chevron: "m9 6 6 6-6 6",
};

/** An icon that says nothing to a screen reader: the words beside it do. */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: ICONS[name] }),
  );
}
