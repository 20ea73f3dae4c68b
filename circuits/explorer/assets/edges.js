// The edges shown, as a list that is read and walked through without the drawing.

import { button, count, el, figure } from "./dom.js";

const ROWS = 60;

export class EdgeList {
  constructor(contents, act) {
    this.contents = contents;
    this.act = act;
    this.rows = ROWS;
    this.caption = el("p", { class: "count", "aria-live": "polite" });
    this.body = el("tbody", {});
    this.more = button("Show more", () => {
      this.rows *= 4;
      this.show(...this.last);
    });
    const head = ["Edge", "Score", "Rank"].map((text) => el("th", { scope: "col" }, text));
    this.place = el(
      "section",
      { class: "edges", "aria-label": "Edges shown, the strongest first" },
      el("h3", {}, "Edges"),
      this.caption,
      el(
        "div",
        { class: "scroll" },
        el("table", { "aria-label": "Edges" }, el("thead", {}, el("tr", {}, head)), this.body),
      ),
      this.more,
    );
    this.body.addEventListener("keydown", (event) => this.walk(event));
  }

  show(view, selected, left) {
    this.last = [view, selected, left];
    const { contents } = this;
    const { scores } = view;
    const all = view.edges.length;
    const drawn = left ? `; the strongest ${count(all - left)} are drawn` : "";
    this.caption.textContent = `${view.said}${drawn}`;
    const rows = [...view.edges.subarray(0, this.rows)].map((edge) => {
      const name = contents.edgeName(edge);
      const change = view.change?.get(edge);
      const checkpoint = view.of(edge);
      const bounds = checkpoint.interval(edge);
      const interval = bounds ? `[${figure(bounds[0])}, ${figure(bounds[1])}]` : null;
      const chosen = selected?.kind === "edge" && selected.name === name;
      return el(
        "tr",
        { class: change ?? (scores[edge] < 0 ? "negative" : "positive") },
        el(
          "th",
          { scope: "row" },
          button(name.replace("->", " → "), () => this.act.select("edge", name), {
            "aria-pressed": chosen ? "true" : "false",
            "data-edge": name,
          }),
          change ? el("span", { class: "change" }, change) : null,
        ),
        el("td", {}, figure(scores[edge]), interval ? el("small", {}, interval) : null),
        el("td", {}, count(checkpoint.ranks[edge])),
      );
    });
    const focused = this.body.contains(document.activeElement)
      ? document.activeElement.dataset.edge
      : null;
    this.body.replaceChildren(...rows);
    if (focused) this.body.querySelector(`[data-edge="${CSS.escape(focused)}"]`)?.focus();
    this.more.hidden = all <= this.rows;
  }

  /** Arrow keys walk from row to row. */
  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...this.body.querySelectorAll("button")];
    const at = all.indexOf(document.activeElement);
    all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus();
    event.preventDefault();
  }
}
