// What the marks of the drawing mean.

import { el, svg } from "./dom.js";

function line(look, head) {
  return svg(
    "svg",
    { viewBox: "0 0 40 12", width: 40, height: 12, "aria-hidden": "true" },
    svg("path", { d: "M1,6H30", class: look }),
    head,
  );
}
const triangle = () => svg("path", { d: "M29,2L38,6L29,10Z", class: "head" });
const square = () => svg("rect", { x: 30, y: 2, width: 8, height: 8, class: "head" });
const circle = () => svg("circle", { cx: 34, cy: 6, r: 4, class: "head" });
const vee = () => svg("path", { d: "M29,1L38,6L29,11L32,6Z", class: "head" });

export function legend() {
  const rows = [
    [line("positive"), "supports the behaviour; gained"],
    [line("negative"), "works against it; lost (broken line)"],
    [line("control"), "kept, in a difference"],
    [line("plain", triangle()), "into a query"],
    [line("plain", square()), "into a key"],
    [line("plain", circle()), "into a value"],
    [line("plain", vee()), "into an MLP or the logits"],
  ];
  return el(
    "ul",
    { class: "legend", "aria-label": "What the marks mean" },
    rows.map(([mark, text]) => el("li", {}, mark, text)),
  );
}
