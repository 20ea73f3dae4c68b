// The explorer: puts the parts together, from data in the page or from a local server.

import { Contents, inWords } from "./contents.js";
import { Controls, measuredF } from "./controls.js";
import { Details } from "./details.js";
import { button, count, el, figure } from "./dom.js";
import { drawing } from "./drawing.js";
import { EdgeList } from "./edges.js";
import { exportsOf } from "./exports.js";
import { Graph, tipOf } from "./graph.js";
import { keys } from "./keys.js";
import { legend } from "./legend.js";
import { placement } from "./placement.js";
import { circuitOf, difference, knockedOut, passing } from "./selection.js";
import { initial, readState, Store } from "./store.js";

const NOTHING = { scores: new Float32Array(), largest: 0, ranks: [], interval: () => null, inclusion: () => null };

/** What is to be shown: the circuit's edges that pass the filters, or the difference of two.
 * `of` gives the checkpoint that an edge's score is of. */
export function viewOf(contents, state) {
  const checkpoint = contents.checkpoints[state.checkpoint] ?? NOTHING;
  const whole = circuitOf(contents, state);
  const circuit = knockedOut(contents, whole, state.knocked);
  const other = state.other === null ? null : contents.checkpoints[state.other];
  if (!other) {
    const edges = passing(contents, state, whole, checkpoint.scores);
    const hidden = whole.length - edges.length;
    const gone = state.knocked.length
      ? `; ${count(circuit.length)} are left without ${state.knocked.join(", ")}`
      : "";
    const said = `${count(whole.length)} edges in the circuit${hidden ? `, ${count(hidden)} filtered out` : ""}${gone}`;
    const { scores, largest } = checkpoint;
    return { checkpoint, of: () => checkpoint, scores, largest, edges, circuit, whole, said };
  }
  // The earlier of the two is what the later is compared with.
  const [first, second] = [Math.min(state.checkpoint, state.other), Math.max(state.checkpoint, state.other)];
  const [before, after] = [contents.checkpoints[first], contents.checkpoints[second]];
  const parts = difference(circuitOf(contents, state, first), circuitOf(contents, state, second));
  const changes = contents.changes(before.name, after.name);
  if (state.significant && changes) {
    parts.gained = parts.gained.filter((edge) => changes.set.has(edge));
    parts.lost = parts.lost.filter((edge) => changes.set.has(edge));
  }
  const change = new Map();
  const scores = Float32Array.from(after.scores);
  for (const [name, edges] of Object.entries(parts)) edges.forEach((edge) => change.set(edge, name));
  parts.lost.forEach((edge) => {
    scores[edge] = before.scores[edge];
  });
  const edges = passing(contents, state, change.keys(), scores);
  const which = state.significant && changes ? "significantly " : "";
  const doubt = changes ? "" : "; whether a change is significant was not tested for these two";
  const said =
    `${before.name} to ${after.name}: ${count(parts.kept.length)} kept, ` +
    `${count(parts.gained.length)} ${which}gained, ${count(parts.lost.length)} ${which}lost${doubt}`;
  const largest = Math.max(before.largest, after.largest);
  const of = (edge) => (change.get(edge) === "lost" ? before : after);
  const two = [before, after];
  return { checkpoint, of, two, scores, largest, edges, circuit, whole, change, changes, said };
}

export function start(root, raw, live = null, given = null) {
  const contents = new Contents(raw);
  const store = new Store(given ?? initial(contents));
  const places = placement(contents);
  const said = el("p", { class: "said", role: "status" });
  const announce = (text) => {
    said.textContent = text;
  };

  const act = {
    select(kind, name, more = false) {
      const { selected } = store.state;
      if (kind === "node" && more && selected?.kind === "node" && selected.name !== name) {
        return act.group(name, groupName(store.state, selected.name));
      }
      store.set({ selected: kind ? { kind, name } : null }, "select");
      return undefined;
    },
    toggle(list, name) {
      const held = store.state[list];
      const now = held.includes(name) ? held.filter((one) => one !== name) : [...held, name];
      store.set({ [list]: now });
    },
    note(name, text) {
      store.set({ notes: without(store.state.notes, name, text) });
    },
    rename(name, text) {
      store.set({ names: without(store.state.names, name, text) });
    },
    group(name, group) {
      const groups = Object.create(null); // whatever a group is called
      for (const [one, held] of Object.entries(store.state.groups)) {
        const left = held.filter((member) => member !== name);
        if (left.length) groups[one] = left;
      }
      const clean = group.trim().slice(0, 60);
      if (clean) {
        groups[clean] = [...(groups[clean] ?? []), name];
        const { selected } = store.state;
        const mate = selected?.kind === "node" ? selected.name : name;
        if (!Object.values(groups).some((held) => held.includes(mate))) groups[clean].push(mate);
      }
      store.set({ groups });
    },
    fit: () => graph.fit(),
    /** What is known has changed, though what is asked for has not. */
    refresh() {
      view = null;
      store.become(store.state);
    },
    announce,
  };

  const session = live?.(contents, store, act);
  const canvas = el("div", { class: "canvas" });
  const tip = el("div", { class: "tip", hidden: true });
  const stage = el(
    "div",
    {
      class: "stage",
      tabindex: 0,
      role: "application",
      "aria-label":
        "The circuit. Arrow keys walk along the strongest edges, plus and minus zoom, 0 fits, p pins, x knocks a node out.",
    },
    canvas,
    tip,
    session ? session.empty : null,
  );
  const controls = new Controls(contents, store, act);
  const list = new EdgeList(contents, act);
  const details = new Details(contents, act, session?.about);
  const current = () => ({ view, picture });
  const files = exportsOf(contents, store, current, { graph: () => graph, root, session, announce });
  const missing = raw.missing?.length
    ? el("details", { class: "missing" }, el("summary", {}, `Notes on what is here (${raw.missing.length})`), el("ul", { "aria-label": "Notes" }, raw.missing.map((line) => el("li", {}, line))))
    : null;
  if (raw.title) document.title = raw.title;
  root.replaceChildren(
    ...(raw.title ? [el("header", { class: "top" }, el("h1", {}, raw.title), el("p", {}, raw.subtitle ?? ""))] : []),
    el("div", { class: "columns" }, controls.place, el("div", { class: "middle" }, stage, legend()), el("div", { class: "beside" }, details.place, list.place)),
    said,
    ...(session ? [session.place] : []),
    ...(raw.example ? [example(raw.example)] : []),
    files,
    ...(missing ? [missing] : []),
  );

  let view;
  let picture;
  /** f of what is shown: measured now where a model is here, else what the run's evaluation says. */
  const faithfulness = (state) =>
    session?.f() ??
    measuredF(view.checkpoint, view.whole.length, state.by === "run" && !state.knocked.length);
  const graph = new Graph(canvas, root, tip, act);
  store.listen((state, was) => {
    if (!view || changed(state, was)) {
      view = viewOf(contents, state);
      picture = drawing(contents, state, view, places);
      graph.draw(picture, tipOf(view));
      session?.circuit(view, state);
    }
    graph.mark(state.selected);
    controls.show(state, view.whole.length, faithfulness(state));
    list.show(view, state.selected, picture.left);
    details.show(state, view);
    if (state.selected && state.selected !== was.selected) {
      announce(`Chosen: ${chosenInWords(contents, state.selected, view)}`);
    }
  });
  session?.listen(() => {
    controls.show(store.state, view.whole.length, faithfulness(store.state));
  });
  session?.begin();
  keys(root, stage, { contents, store, graph, act, current });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => graph.restyle());
  new ResizeObserver(() => graph.cy.resize()).observe(canvas);
  return { contents, store, graph, view: () => view, picture: () => picture, session };
}

/** What is chosen, as it is said to a reader who does not see the drawing. */
function chosenInWords(contents, { kind, name }, view) {
  const edge = kind === "edge" ? contents.edgeNamed(name) : -1;
  if (edge >= 0) {
    const checkpoint = view.of(edge);
    return `${name.replace("->", " to ")}, score ${figure(checkpoint.scores[edge])}, rank ${count(checkpoint.ranks[edge])}`;
  }
  const node = contents.nodes.get(name);
  return node ? `${name}, ${inWords(node)}` : name;
}

/** Whether what is drawn depends on what changed: all but what is chosen. */
function changed(state, was) {
  return Object.keys(state).some((name) => name !== "selected" && state[name] !== was[name]);
}

function groupName(state, name) {
  const found = Object.entries(state.groups).find(([, held]) => held.includes(name));
  let n = 1;
  while (Object.hasOwn(state.groups, `group ${n}`)) n += 1;
  return found ? found[0] : `group ${n}`;
}

function without(values, name, text) {
  const { [name]: _, ...rest } = values;
  return text.trim() ? { ...rest, [name]: text.trim().slice(0, 2000) } : rest;
}

/** The example of the run, as text. */
function example(shown) {
  return el(
    "details",
    { class: "example" },
    el("summary", {}, `The example: ${shown.title}`),
    el("p", {}, shown.clean),
    Object.entries(shown.corruptions).map(([name, pieces]) =>
      el(
        "p",
        {},
        el("b", {}, `${name}: `),
        pieces.map(([text, corrupted]) => (corrupted ? el("mark", {}, text) : text)),
      ),
    ),
    el("p", {}, el("b", {}, "Answer: "), shown.answer),
  );
}

async function boot() {
  const root = document.getElementById("explorer");
  const inside = document.getElementById("explorer-contents");
  if (!root) return;
  try {
    let raw;
    let live = null;
    if (inside) raw = JSON.parse(inside.textContent);
    else {
      const { connect } = await import("./live.js");
      ({ raw, live } = await connect(root));
    }
    const held = document.getElementById("explorer-state")?.textContent;
    const file = held ? JSON.parse(held) : null;
    const contents = new Contents(raw);
    const state = file ? readState(contents, file, initial(contents)) : null;
    window.explorer = start(root, raw, live, state);
    root.dataset.ready = "true";
  } catch (error) {
    root.replaceChildren(
      el("p", { class: "error", role: "alert" }, `The explorer could not start: ${error.message}`),
      button("Try again", () => window.location.reload()),
    );
    root.dataset.ready = "failed";
  }
}

boot();
