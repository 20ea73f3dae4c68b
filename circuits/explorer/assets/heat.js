// Patching place by place: a grid that fills as it is computed, each cell a button.

import { button, el, figure } from "./dom.js";
import { shown } from "./prompts.js";

const SITES = [
  ["resid_pre", "residual stream before a layer"],
  ["resid_mid", "stream between attention and MLP"],
  ["resid_post", "residual stream after a layer"],
  ["attn_out", "what attention adds"],
  ["mlp_out", "what the MLP adds"],
  ["z", "heads' outputs"],
  ["q", "queries"],
  ["k", "keys"],
  ["v", "values"],
  ["pattern", "attention weights"],
];
const HEADS = ["z", "q", "k", "v", "pattern"];

export class Heat {
  constructor(session) {
    this.session = session;
    this.site = el("select", { id: "explorer-site", onchange: () => this.reset() }, SITES.map(([value, text]) => el("option", { value }, text)));
    this.direction = el(
      "select",
      { id: "explorer-direction", onchange: () => this.reset() },
      el("option", { value: "denoise" }, "clean into corrupted"),
      el("option", { value: "noise" }, "corrupted into clean"),
    );
    this.start = button("Patch all", () => this.sweep());
    const stop = () => this.running && session.link.cancel(this.running);
    this.stop = button("Cancel", stop, { hidden: true, "aria-label": "Cancel patching" });
    this.grid = el("div", { class: "scroll" });
    this.said = el("div", { "aria-live": "polite" });
    this.place = el(
      "section",
      { "aria-label": "Patching places", class: "wide" },
      el("h3", {}, "Patching, place by place"),
      el(
        "div",
        { class: "pair" },
        el("div", { class: "field" }, el("label", { for: "explorer-site" }, "Place"), this.site),
        el("div", { class: "field" }, el("label", { for: "explorer-direction" }, "Direction"), this.direction),
      ),
      el("p", { class: "buttons" }, this.start, this.stop),
      this.grid,
      this.said,
    );
    this.reset();
  }

  get by() {
    return HEADS.includes(this.site.value) ? "head" : "position";
  }

  reset() {
    if (this.running) this.session.link.cancel(this.running);
    this.running = null;
    this.cells = [];
    const { pair } = this.session;
    this.said.replaceChildren();
    this.start.disabled = !pair;
    this.stop.hidden = true;
    if (!pair) {
      this.grid.replaceChildren(el("p", { class: "hint" }, "Run a pair of prompts first."));
      return;
    }
    if (this.by === "head") this.grid.replaceChildren(el("p", { class: "hint" }, "“Patch all” shows every head of every layer."));
    else this.build(pair.clean.length);
  }

  build(width) {
    const { pair, given } = this.session;
    const heads = this.by === "head";
    const label = (place) => {
      if (heads) return `h${place}`;
      const [a, b] = [pair.clean[place], pair.corrupted[place]];
      return a.id === b.id ? shown(a) : `${shown(a)}/${shown(b)}`;
    };
    this.cells = Array.from({ length: given.layers }, (_, layer) =>
      Array.from({ length: width }, (_, place) =>
        el("button", {
          type: "button",
          tabindex: layer || place ? -1 : 0,
          "aria-label": `layer ${layer}, ${heads ? "head" : "position"} ${place}`,
          onclick: () => this.click(layer, place),
        }),
      ),
    );
    const rows = this.cells
      .map((row, layer) => el("tr", {}, el("th", { scope: "row" }, String(layer)), row.map((cell) => el("td", {}, cell))))
      .reverse();
    const head = Array.from({ length: width }, (_, place) => el("th", { scope: "col" }, label(place)));
    const name = `Layers by ${heads ? "heads" : "positions"}: the share of the gap that each place moves`;
    const table = el("table", { class: "heat", "aria-label": name }, el("thead", {}, el("tr", {}, el("th", {}, "layer"), head)), el("tbody", {}, rows));
    table.addEventListener("keydown", (event) => this.walk(event));
    this.grid.replaceChildren(table);
  }

  /** One tab stop; arrows walk from cell to cell. */
  walk(event) {
    const step = { ArrowUp: [1, 0], ArrowDown: [-1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    const at = this.cells.findIndex((row) => row.includes(document.activeElement));
    const place = this.cells[at].indexOf(document.activeElement);
    const next = this.cells[at + step[0]]?.[place + step[1]];
    if (next) {
      document.activeElement.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    }
    event.preventDefault();
  }

  paint(layer, place, share) {
    const cell = this.cells[layer]?.[place];
    if (!cell || share === null) return;
    const style = getComputedStyle(document.getElementById("explorer"));
    const colour = style.getPropertyValue(share < 0 ? "--negative" : "--positive");
    const strength = Math.min(100, Math.round(100 * Math.abs(share)));
    cell.style.setProperty("background", `color-mix(in srgb, ${colour} ${strength}%, transparent)`);
    cell.dataset.known = share;
    const name = `layer ${layer}, ${this.by === "head" ? "head" : "position"} ${place}: ${figure(share)} of the gap`;
    cell.setAttribute("aria-label", name);
    cell.title = name;
  }

  async click(layer, place) {
    const { session } = this;
    const request = {
      do: "site",
      site: this.site.value,
      direction: this.direction.value,
      layer,
      [this.by === "head" ? "unit" : "position"]: place,
    };
    this.cells.flat().forEach((cell) => cell.removeAttribute("aria-current"));
    this.cells[layer][place].setAttribute("aria-current", "true");
    const { cells } = this;
    await session.answers.tried(this.said, async () => {
      const { pair_id } = session.pair;
      const found = await session.askOfPair(request).answer;
      session.logged({ ...request, value: found.value, pair_id });
      if (found.recovery !== null && cells === this.cells) this.paint(layer, place, found.recovery);
      const where = el("h5", {}, `${this.site.value}, layer ${layer}, ${this.by} ${place}`);
      return [where, ...session.answers.answered(found, request.direction)];
    });
  }

  async sweep() {
    const { session } = this;
    const request = { do: "sweep", site: this.site.value, direction: this.direction.value, by: this.by };
    let mine;
    const fill = ({ recovery }) => {
      if (mine !== this.running) return; // another place was chosen, or another pair taken
      if (this.cells[0]?.length !== recovery[0].length) this.build(recovery[0].length);
      recovery.forEach((row, layer) => row.forEach((share, place) => this.paint(layer, place, share)));
    };
    const { pair_id } = session.pair;
    const { id, answer } = session.askOfPair(request, fill);
    mine = this.running = id;
    this.start.disabled = true;
    this.stop.hidden = false;
    try {
      const found = await answer;
      if (mine !== this.running) return;
      fill(found);
      session.logged({ ...request, pair_id });
      this.said.replaceChildren(el("p", { class: "hint" }, "All places are patched. Choose one to see its tokens."));
    } catch (error) {
      if (mine !== this.running) return;
      this.said.replaceChildren(el("p", { class: error.cancelled ? "hint" : "error" }, error.message));
    }
    this.running = null;
    this.start.disabled = false;
    this.stop.hidden = true;
  }
}
