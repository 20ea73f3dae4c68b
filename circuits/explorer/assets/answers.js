// What the model answers about the node or edge that is chosen.

import { button, el, figure } from "./dom.js";
import { shown } from "./prompts.js";

const WORDS = {
  noise: "Corrupt it in the clean run",
  denoise: "Restore it in the corrupted run",
};
const TITLES = {
  noise: "The clean prompt, where this edge alone carries what it carries on the corrupted prompt",
  denoise: "The corrupted prompt, where this edge alone carries what it carries on the clean prompt",
};

export class Answers {
  constructor(session) {
    this.session = session;
    this.open = [];
  }

  /** Another pair was taken: what was answered, or is yet to be, is of the old one. */
  reset() {
    this.open.forEach((act) => act());
    this.open = [];
  }

  /** The part of the details that asks the model. */
  about(selected) {
    const results = el("div", { "aria-live": "polite" });
    this.open = [() => results.replaceChildren()];
    const buttons =
      selected.kind === "edge"
        ? ["noise", "denoise"].map((direction) =>
            button(WORDS[direction], () => this.edge(selected.name, direction, results), {
              "data-act": direction,
              title: TITLES[direction],
            }),
          )
        : [button("What it does here", () => this.node(selected.name, results), { "data-act": "node" })];
    return el("div", { class: "asked" }, el("div", { class: "buttons" }, buttons), results);
  }

  async edge(name, direction, place) {
    await this.tried(place, async () => {
      const { pair_id } = this.session.pair ?? {};
      const { answer } = this.session.askOfPair({ do: "edge", edge: name, direction });
      const found = await answer;
      this.session.logged({ do: "edge", edge: name, direction, value: found.value, pair_id });
      return this.answered(found, direction);
    });
  }

  async node(name, place) {
    await this.tried(place, async () => {
      const { pair_id } = this.session.pair ?? {};
      const { answer } = this.session.askOfPair({ do: "node", node: name });
      const found = await answer;
      const parts = [];
      if (found.direct) {
        this.session.logged({ do: "edge", edge: `${name}->logits`, direction: "noise", value: found.direct.value, pair_id });
        parts.push(
          el("h5", {}, "Straight to the logits: its direct edge corrupted"),
          ...this.answered(found.direct, "noise"),
          this.tops([["Moved most", found.moved]]),
        );
      }
      if (found.pattern) parts.push(el("h5", {}, "Attention on the clean prompt"), this.attention(found.pattern));
      if (!parts.length) parts.push(el("p", {}, "It writes nothing to the logits, and attends to nothing."));
      return parts;
    });
  }

  async tried(place, make) {
    const { pair } = this.session;
    const stale = () => pair !== this.session.pair;
    place.replaceChildren(el("p", { class: "hint" }, "Running …"));
    try {
      const made = await make();
      if (!stale()) place.replaceChildren(...made);
    } catch (error) {
      if (!stale()) place.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
  }

  /** A patched run: the metric, the share of the gap, and the tokens that it moves. */
  answered(found, direction) {
    const { pair } = this.session;
    const base = direction === "noise" ? pair.ends[0] : pair.ends[1];
    const verb = direction === "noise" ? "leaves" : "brings back";
    const percent = found.recovery === null ? null : figure(100 * found.recovery);
    const share = percent === null ? "" : `; this ${verb} ${percent} % of the gap between the prompts`;
    return [
      el("p", { class: "answer" }, `${pair.metric} ${figure(base)} → ${figure(found.value)} (${signed(found.value - base)})${share}.`),
      this.tops([[pair.right.length > 1 ? "Then likeliest first" : "Then likeliest", found.tops]]),
    ];
  }

  /** Tables of the likeliest tokens side by side. pair: whose right and wrong tokens are marked. */
  tops(tables, pair = this.session.pair) {
    const ids = (sets) => new Set((sets ?? []).flat().map((one) => one.id));
    const marks = [
      ["right", ids(pair?.right)],
      ["wrong", ids(pair?.wrong)],
    ];
    const markOf = (one) => marks.find(([, held]) => held.has(one.id))?.[0] ?? null;
    return el(
      "div",
      { class: "tops" },
      tables.map(([title, tops]) =>
        el(
          "table",
          { "aria-label": title },
          el("thead", {}, el("tr", {}, el("th", { scope: "col" }, title), el("th", { scope: "col" }, "%"), tops[0]?.change === null ? null : el("th", { scope: "col" }, "logit"))),
          el(
            "tbody",
            {},
            tops.map((one) =>
              el(
                "tr",
                { class: markOf(one) },
                el("th", { scope: "row" }, shown(one), markOf(one) && el("small", {}, markOf(one))),
                el("td", {}, figure(100 * one.probability)),
                one.change === null ? null : el("td", {}, signed(one.change)),
              ),
            ),
          ),
        ),
      ),
    );
  }

  /** A head's pattern: rows are queries, columns keys, dark is much. */
  attention(pattern) {
    const size = pattern.length;
    const zoom = Math.max(2, Math.min(16, Math.floor(260 / size)));
    const canvas = el("canvas", { class: "attention", width: size * zoom, height: size * zoom, role: "img", "aria-label": this.inWords(pattern) });
    const ink = canvas.getContext("2d");
    const colour = getComputedStyle(document.getElementById("explorer")).getPropertyValue("--positive");
    ink.fillStyle = colour;
    pattern.forEach((row, y) => {
      row.forEach((value, x) => {
        ink.globalAlpha = value;
        ink.fillRect(x * zoom, y * zoom, zoom, zoom);
      });
    });
    return el("div", {}, canvas, el("p", { class: "hint" }, this.inWords(pattern)));
  }

  /** Where the last position looks. */
  inWords(pattern) {
    const { clean } = this.session.pair;
    const last = pattern.at(-1);
    const top = [...last.keys()].sort((a, b) => last[b] - last[a]).slice(0, 3);
    const looked = top.map((place) => `“${shown(clean[place])}” at ${place} (${Math.round(100 * last[place])} %)`);
    return `The last position looks at ${looked.join(", ")}.`;
  }
}

function signed(value) {
  return value > 0 ? `+${figure(value)}` : figure(value);
}
