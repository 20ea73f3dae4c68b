// What is shown, and how much of it: checkpoints, size, threshold, filters.

import { button, count, el, figure, withInterval } from "./dom.js";

let made = 0;

function labelled(text, field, ...beside) {
  made += 1;
  field.id ||= `explorer-field-${made}`;
  return el("div", { class: "field" }, el("label", { for: field.id }, text), field, ...beside);
}

export class Controls {
  constructor(contents, store, act) {
    this.contents = contents;
    this.store = store;
    this.size = el("input", {
      type: "range",
      min: 0,
      max: 1000,
      "aria-describedby": "explorer-f",
      oninput: () => this.resized(sizeAt(contents, Number(this.size.value))),
    });
    this.number = el("input", {
      type: "number",
      min: 1,
      max: contents.nEdges,
      "aria-label": "Number of edges",
      onchange: () => this.resized(Number(this.number.value)),
    });
    this.f = el("output", { id: "explorer-f", class: "f" });
    this.steps = el("input", {
      type: "range",
      min: 0,
      oninput: () => store.set({ checkpoint: Number(this.steps.value) }, "checkpoint"),
    });
    this.stepName = el("span", { class: "value" }); // the slider says the same to a screen reader
    this.other = el("select", {
      onchange: () => {
        const other = this.other.value === "" ? null : Number(this.other.value);
        store.set({ other });
      },
    });
    this.significant = el("input", {
      type: "checkbox",
      onchange: () => store.set({ significant: this.significant.checked }),
    });
    this.significantLabel = el("label", { class: "tick" }, this.significant, " only significant");
    this.by = el(
      "select",
      { onchange: () => store.set({ by: this.by.value }) },
      el("option", { value: "size" }, "the strongest paths, by size"),
      el("option", { value: "threshold" }, "all edges from a |score| on"),
      el("option", { value: "run" }, "the circuit as it was saved"),
    );
    this.threshold = el("input", {
      type: "range",
      min: 0,
      max: 1000,
      oninput: () => store.set({ threshold: this.scoreAt(Number(this.threshold.value)) }, "threshold"),
    });
    this.thresholdSaid = el("span", { class: "value" });
    this.text = el("input", {
      type: "search",
      placeholder: "a3.h1, m2, logits …",
      oninput: () => store.set({ text: this.text.value }, "text"),
    });
    const layers = ["From layer", "To layer"].map((text, end) => {
      const field = el("input", {
        type: "number",
        min: 0,
        max: this.deepest,
        onchange: () => {
          const ends = [...store.state.layers];
          ends[end] = Math.max(0, Math.min(this.deepest, Math.round(Number(field.value) || 0)));
          store.set({ layers: ends });
        },
      });
      return [labelled(text, field), field];
    });
    this.layers = layers.map(([, field]) => field);
    this.sign = el(
      "select",
      { onchange: () => store.set({ sign: this.sign.value }) },
      el("option", { value: "both" }, "both signs"),
      el("option", { value: "+" }, "support the behaviour"),
      el("option", { value: "-" }, "work against it"),
    );
    this.ports = ["q", "k", "v"].map((port) => {
      const box = el("input", {
        type: "checkbox",
        onchange: () => {
          const ports = this.ports.filter((one) => one.checked).map((one) => one.value);
          store.set({ ports });
        },
        value: port,
      });
      return box;
    });
    this.undo = button("Undo", () => store.undo(), { title: "Ctrl+Z" });
    this.redo = button("Redo", () => store.redo(), { title: "Ctrl+Shift+Z" });
    this.stepField = labelled("Checkpoint", this.steps, this.stepName);
    this.otherField = labelled("Difference with", this.other, this.significantLabel);
    this.sizeField = labelled("Edges", this.size, this.number);
    this.thresholdField = labelled("Least |score|", this.threshold, this.thresholdSaid);
    this.place = el(
      "section",
      { class: "controls", "aria-label": "What is shown" },
      this.stepField,
      labelled("Circuit", this.by),
      this.sizeField,
      this.thresholdField,
      this.f,
      this.otherField,
      el(
        "details",
        { class: "filters" },
        el("summary", {}, "Filters"),
        labelled("Names", this.text),
        el("div", { class: "pair" }, ...layers.map(([whole]) => whole)),
        labelled("Sign", this.sign),
        el(
          "fieldset",
          {},
          el("legend", {}, "Edges into"),
          ...this.ports.map((box, index) =>
            el("label", { class: "tick" }, box, ` ${["queries", "keys", "values"][index]}`),
          ),
        ),
      ),
      el("div", { class: "buttons" }, this.undo, this.redo, button("Fit", act.fit)),
    );
  }

  get deepest() {
    return Math.max(0, ...[...this.contents.nodes.values()].map((node) => node.layer ?? 0));
  }

  scoreAt(value) {
    const largest = this.contents.checkpoints[this.store.state.checkpoint]?.largest ?? 0;
    return largest * (value / 1000) ** 3;
  }

  resized(size) {
    const most = this.contents.nEdges;
    const whole = Math.max(1, Math.min(most, Math.round(size) || 1));
    this.store.set({ size: whole, by: "size" }, "size");
  }

  /** f: what is known of the faithfulness, as text. */
  show(state, kept, f) {
    const { contents } = this;
    const { checkpoints } = contents;
    const checkpoint = checkpoints[state.checkpoint];
    this.steps.max = Math.max(0, checkpoints.length - 1);
    this.steps.value = state.checkpoint;
    this.stepName.textContent = checkpoint?.name ?? "none yet";
    this.steps.setAttribute("aria-valuetext", this.stepName.textContent);
    this.stepField.hidden = this.otherField.hidden = checkpoints.length < 2;
    const wanted = ["", ...checkpoints.keys()].filter((one) => one !== state.checkpoint);
    if (this.offered !== wanted.join()) {
      this.offered = wanted.join();
      this.other.replaceChildren(
        ...wanted.map((index) =>
          el("option", { value: index }, index === "" ? "none" : checkpoints[index].name),
        ),
      );
    }
    this.other.value = state.other ?? "";
    this.significant.checked = state.significant;
    this.significantLabel.hidden = state.other === null;
    this.by.value = state.by === "run" && !checkpoint?.circuit ? "size" : state.by;
    this.by.options[2].disabled = !checkpoint?.circuit;
    this.sizeField.hidden = this.by.value === "threshold";
    this.thresholdField.hidden = this.by.value !== "threshold";
    const size = this.by.value === "run" ? kept : state.size;
    this.size.value = placeOf(contents, size);
    this.size.setAttribute("aria-valuetext", `${count(size)} edges`);
    if (document.activeElement !== this.number) this.number.value = size;
    const largest = checkpoint?.largest || 1;
    this.threshold.value = Math.round(1000 * (state.threshold / largest) ** (1 / 3));
    this.thresholdSaid.textContent = figure(state.threshold);
    this.threshold.setAttribute("aria-valuetext", `|score| at least ${figure(state.threshold)}`);
    if (document.activeElement !== this.text) this.text.value = state.text;
    this.layers.forEach((field, end) => {
      if (document.activeElement !== field) field.value = state.layers[end];
    });
    this.sign.value = state.sign;
    this.ports.forEach((box) => {
      box.checked = state.ports.includes(box.value);
    });
    this.undo.disabled = !this.store.before.length;
    this.redo.disabled = !this.store.after.length;
    this.f.textContent = f;
  }
}

/** The slider is logarithmic: half of its way is the square root of all edges. */
function sizeAt(contents, value) {
  return Math.round(contents.nEdges ** (value / 1000));
}
function placeOf(contents, size) {
  return Math.round((1000 * Math.log(Math.max(1, size))) / Math.log(Math.max(2, contents.nEdges)));
}

/** What the run's evaluation says of f: of the saved circuit itself, else of the nearest size. */
export function measuredF(checkpoint, size, saved) {
  const found = evaluated(checkpoint, size, saved);
  if (!found) return "f was not measured here";
  const at = found.size === null ? "" : ` at ${count(found.size)} edges`;
  return `f = ${withInterval(found.f, found.low, found.high)}${at} (measured, n = ${found.n})`;
}

/** What the run's evaluation has of a circuit's f: {f, low, high, n, size}, or null. The size is
 * null where the saved circuit itself was evaluated; else it is the size on the curve that is
 * nearest by ratio, as sizes are spaced. */
export function evaluated(checkpoint, size, saved) {
  const { curve, raw } = checkpoint ?? {};
  if (saved && raw?.circuit_f) return { ...raw.circuit_f, size: null };
  if (!curve) return null;
  const far = (place) => Math.abs(Math.log((curve.sizes[place] || 0.5) / (size || 0.5)));
  const best = [...curve.sizes.keys()].reduce((held, place) => (far(place) < far(held) ? place : held), 0);
  const [f, low, high, at] = [curve.f, curve.low, curve.high, curve.sizes].map((all) => all[best]);
  return { f, low, high, n: curve.n, size: at };
}
