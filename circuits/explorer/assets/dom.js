// Elements made by hand: text becomes text nodes, so that nothing in the data is ever markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(made, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((one) => one !== null && one !== undefined));
  return made;
}

/** An HTML element; properties that begin with "on" are listeners, the others attributes. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

export function button(text, act, props = {}) {
  return el("button", { type: "button", onclick: act, ...props }, text);
}

/** A number as people read it: three digits that count. */
export function figure(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("-", "−");
  return Number(value.toPrecision(3)).toString().replace("-", "−");
}

export function count(value) {
  return value.toLocaleString("en");
}

/** "0.96 [0.91, 0.99]", or the value alone where there is no interval. */
export function withInterval(value, low, high) {
  const known = Number.isFinite(low) && Number.isFinite(high);
  return known ? `${figure(value)} [${figure(low)}, ${figure(high)}]` : figure(value);
}

/** Give the reader a file. */
export function download(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const address = URL.createObjectURL(blob);
  const link = el("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
