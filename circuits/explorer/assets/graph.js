// The circuit on the screen, by Cytoscape.js.

import cytoscape from "./vendor/cytoscape.js";

import { figure } from "./dom.js";
import { brokenLine, colourOf, palette } from "./drawing.js";
import { besideLine } from "./placement.js";

const ARROWS = { q: "triangle", k: "square", v: "circle" };
const STILL = 1000; // ms; Cytoscape keeps no picture of what changed in the last 250
const SHAPES = { head: "ellipse", mlp: "round-rectangle", logits: "round-rectangle" };

export class Graph {
  /** act: {select(kind, name), more(kind, name, event)}. tip: an element for what is pointed at. */
  constructor(place, root, tip, act) {
    this.root = root;
    this.tip = tip;
    this.cy = cytoscape({
      container: place,
      style: [],
      minZoom: 0.08,
      maxZoom: 4,
      boxSelectionEnabled: false,
      autoungrabify: true,
      textureOnViewport: true,
      // Above 1: at 1 Cytoscape makes the texture of a drag twice as fine as the screen, anew.
      pixelRatio: Math.min(2, Math.max(1.001, window.devicePixelRatio || 1)),
      layout: { name: "preset" },
    });
    this.restyle();
    this.cy.on("tap", "node[name]", (event) => {
      const { shiftKey } = event.originalEvent ?? {};
      act.select("node", event.target.data("name"), shiftKey);
    });
    this.cy.on("tap", "edge", (event) => act.select("edge", event.target.data("name"), false));
    this.cy.on("tap", (event) => {
      if (event.target === this.cy) act.select(null, null, false);
    });
    this.cy.on("mouseover", "node[name], edge", (event) => this.point(event));
    this.cy.on("mouseout", "node[name], edge", () => {
      tip.hidden = true;
    });
    const away = () => {
      tip.hidden = true;
    };
    this.cy.on("pan zoom", away);
    this.cy.on("render", () => this.rest());
    tip.parentElement.addEventListener("pointerleave", away);
  }

  point(event) {
    const { x, y } = event.renderedPosition;
    this.tip.textContent = this.said(event.target.data());
    this.tip.hidden = false;
    const room = this.tip.parentElement.getBoundingClientRect();
    const mine = this.tip.getBoundingClientRect();
    this.tip.style.left = `${Math.max(4, Math.min(x + 14, room.width - mine.width - 6))}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y + 14, room.height - mine.height - 6))}px`;
  }

  /** Draw something else; what stays as it was is left alone, for making elements is dear. said:
   * data of a node or edge -> text beside the pointer. */
  draw(picture, said) {
    this.said = said;
    const { cy } = this;
    const first = cy.elements().empty();
    const elements = elementsOf(picture);
    const groups = JSON.stringify(picture.nodes.map((node) => [node.name, node.group]).filter(([, group]) => group));
    const drawn = new Map(elements.map((one) => [one.data.id, JSON.stringify(one.data)]));
    cy.batch(() => {
      if (first || groups !== this.groups) { // a group that goes would take its nodes along
        cy.elements().remove();
        cy.add(elements);
        return;
      }
      cy.elements().filter((one) => !drawn.has(one.id())).remove();
      cy.add(elements.filter((one) => !this.drawn.has(one.data.id)));
      elements
        .filter((one) => this.drawn.has(one.data.id) && this.drawn.get(one.data.id) !== drawn.get(one.data.id))
        .forEach((one) => cy.getElementById(one.data.id).data(one.data));
    });
    this.drawn = drawn;
    this.groups = groups;
    if (first) this.fit();
  }

  /** Mark what is chosen, and what it is joined to. Classes are set only where they change: to
   * Cytoscape, one that is taken away where there was none is a change too, and costs as much. */
  mark(selected) {
    const { cy } = this;
    const marks = this.marksOf(selected);
    cy.batch(() => {
      for (const [name, marked] of Object.entries(marks)) {
        cy.elements(`.${name}`).difference(marked).removeClass(name);
        marked.filter((one) => !one.hasClass(name)).addClass(name);
      }
    });
    this.changed = true;
  }

  marksOf(selected) {
    const { cy } = this;
    const none = cy.collection();
    const chosen = selected
      ? cy.elements(selected.kind).filter((one) => one.data("name") === selected.name)
      : none;
    if (chosen.empty()) return { chosen: none, joined: none, apart: none };
    const joined = selected.kind === "node" ? chosen.connectedEdges() : chosen.connectedNodes();
    const near = joined.union(joined.connectedNodes()).union(chosen);
    return { chosen, joined, apart: cy.edges().difference(near) };
  }

  /** Once nothing has changed for a while, Cytoscape may keep a picture, which it then moves and
   * scales. It is asked for beforehand, so that the first frame of a drag need not wait for it. */
  rest() {
    if (!this.changed) return;
    this.changed = false;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.cy.forceRender(), STILL);
  }

  fit() {
    this.cy.resize();
    this.cy.fit(undefined, 24);
  }

  zoom(factor) {
    const { cy } = this;
    const centre = { x: cy.width() / 2, y: cy.height() / 2 };
    cy.zoom({ level: cy.zoom() * factor, renderedPosition: centre });
  }

  pan(x, y) {
    this.cy.panBy({ x, y });
  }

  png() {
    return this.cy.png({ output: "blob", full: true, scale: 2, bg: palette(this.root).paper });
  }

  restyle() {
    const colour = palette(this.root);
    const text = { color: colour.ink, "font-size": 12, "font-family": "system-ui, sans-serif" };
    this.cy.style([
      {
        selector: "node[name]",
        style: {
          ...text,
          shape: "data(shape)",
          label: "data(label)",
          width: "data(wide)",
          height: 26,
          "text-valign": "center",
          "background-color": colour.raised,
          "border-color": colour.muted,
          "border-width": 1.2,
        },
      },
      { selector: "node[?pinned]", style: { "border-width": 3, "border-color": colour.markline } },
      {
        selector: "node[?knocked]",
        style: {
          "border-style": "dashed",
          "border-color": colour.negative,
          "border-width": 2.5,
          "background-color": colour.paper,
          color: colour.muted,
        },
      },
      {
        selector: "node[?group][^name]",
        style: {
          ...text,
          label: "data(label)",
          "text-valign": "top",
          shape: "round-rectangle",
          "background-color": colour.purple,
          "background-opacity": 0.1,
          "border-color": colour.purple,
          "border-width": 1,
        },
      },
      {
        selector: "node[?floor]",
        style: {
          ...text,
          color: colour.muted,
          label: "data(label)",
          "text-valign": "center",
          "background-opacity": 0,
          events: "no",
        },
      },
      {
        selector: "edge",
        style: {
          "curve-style": "unbundled-bezier",
          "edge-distances": "node-position",
          "control-point-weights": (edge) => edge.data("weights"),
          "control-point-distances": (edge) => edge.data("distances"),
          "z-index": "data(height)", // the strongest on top
          width: "data(width)",
          opacity: "data(opacity)",
          "line-color": (edge) => colour[edge.data("colour")],
          "target-arrow-color": (edge) => colour[edge.data("colour")],
          "target-arrow-shape": "data(arrow)",
          "arrow-scale": 0.8,
        },
      },
      { selector: "edge[?broken]", style: { "line-style": "dashed" } },
      { selector: "edge.apart", style: { opacity: 0.22 } },
      { selector: "edge.joined", style: { opacity: 1 } },
      {
        selector: ".chosen",
        style: {
          "underlay-color": colour.markline,
          "underlay-opacity": 0.6,
          "underlay-padding": 5,
          opacity: 1,
        },
      },
    ]);
  }
}

/** What is drawn, as Cytoscape takes it. */
function elementsOf(picture) {
  const groups = new Set(picture.nodes.map((node) => node.group).filter(Boolean));
  const elements = [...groups].map((name) => ({
    group: "nodes",
    data: { id: `group ${name}`, label: name, group: true },
  }));
  for (const node of picture.nodes) {
    elements.push({
      group: "nodes",
      data: {
        id: node.name,
        ...node,
        shape: node.cross ? "diamond" : (SHAPES[node.kind] ?? "round-rectangle"),
        wide: node.kind === "head" || node.kind === "mlp" ? 34 : 62,
        label: node.noted ? `${node.label} ✎` : node.label,
        parent: node.group ? `group ${node.group}` : undefined,
      },
      position: { ...node.place },
    });
  }
  picture.floors.forEach(({ text, x, y }) => {
    elements.push({
      group: "nodes",
      data: { id: text, floor: true, label: text },
      position: { x, y },
      selectable: false,
    });
  });
  const where = new Map(picture.nodes.map((node) => [node.name, node.place]));
  for (const line of picture.lines) {
    const [from, to] = [where.get(line.source), where.get(line.target)];
    const bent = line.points.map((point) => besideLine(from, to, point));
    elements.push({
      group: "edges",
      data: {
        ...line,
        height: Math.round(1000 * line.width),
        arrow: ARROWS[line.port] ?? "vee",
        colour: colourOf(line),
        broken: brokenLine(line),
        weights: bent.map((one) => one.weight),
        distances: bent.map((one) => one.distance),
      },
    });
  }
  return elements;
}

/** What stands beside the pointer. */
export function tipOf(view) {
  return (data) => {
    if (data.edge === undefined) return `${data.name}: ${data.words}`;
    const checkpoint = view.of(data.edge);
    const bounds = checkpoint.interval(data.edge);
    const score = bounds
      ? `${figure(data.score)} [${figure(bounds[0])}, ${figure(bounds[1])}]`
      : figure(data.score);
    const parts = [data.name, `score ${score}`, `rank ${checkpoint.ranks[data.edge]}`];
    const share = checkpoint.inclusion(data.edge);
    if (share !== null) parts.push(`in ${Math.round(share * 100)} % of resampled circuits`);
    if (data.change) parts.push(view.changes?.set.has(data.edge) ? `${data.change} *` : data.change);
    return parts.join("\n");
  };
}
