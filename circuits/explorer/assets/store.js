// The state of the page: plain values, changed in one place, with undo.

const STEPS = 200;

export function initial(contents) {
  const last = Math.max(0, contents.checkpoints.length - 1);
  const circuit = contents.checkpoints[last]?.circuit;
  const deepest = Math.max(0, ...[...contents.nodes.values()].map((node) => node.layer ?? 0));
  return {
    checkpoint: last,
    other: null,
    significant: true,
    by: circuit ? "run" : "size",
    size: circuit?.length ?? Math.min(50, contents.nEdges),
    threshold: 0,
    layers: [0, deepest],
    ports: ["q", "k", "v"],
    sign: "both",
    text: "",
    selected: null,
    pinned: [],
    knocked: [],
    names: {},
    notes: {},
    groups: {},
  };
}

export class Store {
  constructor(state) {
    this.state = state;
    this.before = [];
    this.after = [];
    this.listeners = [];
  }

  listen(act) {
    this.listeners.push(act);
    act(this.state, this.state);
  }

  /** Change some of the state. `step`: what to call it; steps of one name in a row are one. */
  set(changes, step = "") {
    const was = this.state;
    const now = { ...was, ...changes };
    if (JSON.stringify(was) === JSON.stringify(now)) return;
    if (!(step && step === this.step)) {
      this.before = [...this.before.slice(-STEPS), was];
    }
    this.step = step;
    this.after = [];
    this.become(now);
  }

  undo() {
    this.travel(this.before, this.after);
  }

  redo() {
    this.travel(this.after, this.before);
  }

  travel(from, to) {
    if (!from.length) return;
    to.push(this.state);
    this.step = "";
    this.become(from.pop());
  }

  become(now) {
    const was = this.state;
    this.state = now;
    this.listeners.forEach((act) => act(now, was));
  }
}

/** A state as a file, with what it belongs to. */
export function stateFile(contents, state) {
  const { layout, model } = contents.raw;
  return {
    kind: "explorer-state",
    schema_version: 1,
    layout: layout.sizes,
    model: model?.fingerprint ?? null,
    checkpoint: contents.checkpoints[state.checkpoint]?.name ?? null,
    other: state.other === null ? null : (contents.checkpoints[state.other]?.name ?? null),
    state,
  };
}

/** The state in a file; an error says why it does not fit here. */
export function readState(contents, file, fallback) {
  if (file?.kind !== "explorer-state") throw new Error("this is no state of the explorer");
  if (file.schema_version !== 1) {
    throw new Error(`this state is of schema version ${file.schema_version}; 1 is read here`);
  }
  if (JSON.stringify(file.layout) !== JSON.stringify(contents.raw.layout.sizes)) {
    throw new Error("this state is of a model of other sizes, and is not opened here");
  }
  const mine = contents.raw.model?.fingerprint ?? null;
  if (file.model && mine && file.model !== mine) {
    throw new Error("this state is of a model of other weights, and is not opened here");
  }
  const indexOf = (name) => contents.checkpoints.findIndex((one) => one.name === name);
  const known = Object.keys(fallback);
  const state = { ...fallback };
  for (const [name, value] of Object.entries(file.state ?? {})) {
    const same = known.includes(name) && Array.isArray(value) === Array.isArray(fallback[name]);
    const sort = (one) => (one === null ? "object" : typeof one);
    const loose = ["selected", "other"].includes(name);
    if (same && (loose || sort(value) === sort(fallback[name]))) state[name] = value;
  }
  const place = indexOf(file.checkpoint);
  state.checkpoint = place < 0 ? fallback.checkpoint : place;
  state.other = file.other === null ? null : indexOf(file.other);
  if (state.other !== null && state.other < 0) state.other = null;
  return state;
}
