// The drawing as an SVG file: the same places and colours as on the screen.

import { svg } from "./dom.js";
import { brokenLine, colourOf } from "./drawing.js";

const HALF = { head: 17, mlp: 17 };

export function asSvg(picture, colour, title) {
  const xs = picture.nodes.map((node) => node.place.x);
  const ys = picture.nodes.map((node) => node.place.y);
  const aside = picture.floors.map((floor) => floor.x - 40);
  const [left, right] = [Math.min(0, ...xs, ...aside) - 60, Math.max(0, ...xs) + 60];
  const [top, bottom] = [Math.min(0, ...ys) - 40, Math.max(0, ...ys) + 40];
  const [width, height] = [right - left, bottom - top];
  const where = new Map(picture.nodes.map((node) => [node.name, node.place]));
  const lines = picture.lines.map((line) => {
    const [from, to] = [where.get(line.source), where.get(line.target)];
    const [a, b] = line.points;
    const tint = colour[colourOf(line)];
    return svg(
      "g",
      {},
      svg("title", {}, `${line.name}: ${line.score}${line.change ? `, ${line.change}` : ""}`),
      svg("path", {
        d: `M${from.x},${from.y - 13}C${a.x},${a.y},${b.x},${b.y},${to.x},${to.y + 13}`,
        fill: "none",
        stroke: tint,
        "stroke-width": line.width.toFixed(2),
        "stroke-dasharray": brokenLine(line) ? "6 4" : null,
        opacity: line.opacity.toFixed(2),
      }),
    );
  });
  const nodes = picture.nodes.map((node) => {
    const half = HALF[node.kind] ?? 31;
    const { x, y } = node.place;
    const look = {
      fill: colour.raised,
      stroke: node.knocked ? colour.negative : node.pinned ? colour.markline : colour.muted,
      "stroke-width": node.pinned || node.knocked ? 2.5 : 1.2,
      "stroke-dasharray": node.knocked ? "4 3" : null,
    };
    const shape =
      node.kind === "head"
        ? svg("ellipse", { cx: x, cy: y, rx: half, ry: 13, ...look })
        : svg("rect", { x: x - half, y: y - 13, width: 2 * half, height: 26, rx: 5, ...look });
    const label = svg(
      "text",
      { x, y: y + 4, fill: colour.ink, "font-size": 12, "text-anchor": "middle" },
      node.label,
    );
    return svg("g", {}, svg("title", {}, `${node.name}: ${node.words}`), shape, label);
  });
  const floors = picture.floors.map(({ text, x, y }) =>
    svg("text", { x, y: y + 4, fill: colour.muted, "font-size": 12, "text-anchor": "middle" }, text),
  );
  const whole = svg(
    "svg",
    {
      xmlns: "http://www.w3.org/2000/svg",
      role: "img",
      "aria-label": title,
      viewBox: `${left} ${top} ${width} ${height}`,
      width,
      height,
      "font-family": "system-ui, sans-serif",
    },
    svg("rect", { x: left, y: top, width, height, fill: colour.paper }),
    floors,
    lines,
    nodes,
  );
  return new XMLSerializer().serializeToString(whole);
}
