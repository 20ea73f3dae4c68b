// What is drawn of a selection, for the screen and for SVG alike: nodes, edges and how they look.

import { inWords } from "./contents.js";
import { controls } from "./placement.js";

export const DRAWN = 500;
const WIDEST = 7;

/** view: {edges (the strongest first), scores, largest, change: edge -> "kept" | "gained" | "lost", circuit}. */
export function drawing(contents, state, view, places) {
  const drawn = [...view.edges.subarray(0, DRAWN)].reverse(); // the strongest last, on top
  const left = view.edges.length - drawn.length;
  const names = new Set([...state.pinned, ...state.knocked].filter((one) => contents.nodes.has(one)));
  const inCircuit = new Set(view.circuit ?? view.edges);
  const writing = new Set();
  for (const edge of inCircuit) writing.add(contents.sources[contents.rows[edge]]);
  const lines = [];
  for (const edge of drawn) {
    const source = contents.sources[contents.rows[edge]];
    const ends = contents.targets(edge);
    const alive = ends.filter((one) => writing.has(one) || one === "logits");
    const score = view.scores[edge];
    const share = view.largest ? Math.sqrt(Math.abs(score) / view.largest) : 1;
    for (const target of alive.length ? alive : ends) {
      const port = contents.ports[contents.columns[edge]];
      names.add(source).add(target);
      lines.push({
        id: `${contents.edgeName(edge)}|${target}`,
        edge,
        name: contents.edgeName(edge),
        source,
        target,
        port,
        score,
        change: view.change?.get(edge) ?? null,
        width: 0.8 + (WIDEST - 0.8) * Math.min(1, share),
        opacity: 0.35 + 0.6 * Math.min(1, share),
        points: controls(places.places.get(source), places.places.get(target), port, places.right),
      });
    }
  }
  if (view.edges.length) names.add("input").add("logits");
  const groupOf = new Map();
  Object.entries(state.groups).forEach(([group, held]) => {
    held.forEach((one) => groupOf.set(one, group));
  });
  const nodes = [...names].map((name) => ({
    name,
    label: state.names[name] ?? short(name),
    words: inWords(contents.nodes.get(name)),
    kind: contents.nodes.get(name).kind,
    cross: contents.nodes.get(name).cross,
    place: places.places.get(name),
    pinned: state.pinned.includes(name),
    knocked: state.knocked.includes(name),
    noted: Boolean(state.notes[name]),
    group: groupOf.get(name) ?? null,
  }));
  const ys = nodes.map((node) => node.place.y);
  const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
  const floors = places.floors.filter(({ y }) => y >= top && y <= bottom);
  return { nodes, lines, floors, left };
}

/** A head's number within its layer is enough in the drawing; other nodes keep their names. */
function short(name) {
  return name.replace(/^(enc\.)?[ax]\d+\./, "");
}

/** The colour of a line by what it means, as a name of the palette. */
export function colourOf(line) {
  if (line.change) {
    return { kept: "control", gained: "positive", lost: "negative" }[line.change];
  }
  return line.score < 0 ? "negative" : "positive";
}

/** Whether a line is broken: what works against the behaviour, and what was lost. */
export function brokenLine(line) {
  return line.change ? line.change === "lost" : line.score < 0;
}

/** Colours of the palette as the page has them now, light or dark. */
export function palette(root) {
  const style = getComputedStyle(root);
  const names = ["paper", "raised", "ink", "muted", "faint", "grid", "positive", "negative"];
  return Object.fromEntries(
    [...names, "control", "mark", "markline", "green", "purple"].map((name) => [
      name,
      style.getPropertyValue(`--${name}`).trim(),
    ]),
  );
}
