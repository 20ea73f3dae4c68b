// What is known of the node or edge that is chosen, and what can be done with it.

import { inWords } from "./contents.js";
import { button, el, figure, withInterval } from "./dom.js";

const NEAR = 8;

export class Details {
  /** act: {select, toggle(list, name), note(name, text), rename(name, text), group(name)}. live:
   * makes the part about the model, where there is one. */
  constructor(contents, act, live) {
    this.contents = contents;
    this.act = act;
    this.live = live;
    this.body = el("div", {});
    this.facts = el("div", {});
    this.place = el(
      "section",
      { class: "details", "aria-label": "What is chosen" },
      el("h3", {}, "Chosen"),
      this.body,
    );
  }

  show(state, view) {
    const { selected } = state;
    const chosen = JSON.stringify(selected);
    const same = this.shown === chosen;
    if (same && view === this.view) return; // a view is made again whenever anything else changes
    this.view = view;
    this.shown = chosen;
    if (!selected) {
      this.body.replaceChildren(
        el("p", { class: "hint" }, "Choose a node or an edge, in the drawing or in the list."),
      );
      return;
    }
    const facts =
      selected.kind === "node" ? this.node(selected.name, state, view) : this.edge(selected.name, view);
    this.facts.replaceChildren(el("h4", {}, selected.name.replace("->", " → ")), ...facts);
    if (!same) {
      this.fields = this.actions(selected);
      const results = this.live ? [this.live(selected)] : [];
      this.body.replaceChildren(this.facts, this.fields.place, ...results);
    }
    this.fields.show(state);
  }

  edge(name, view) {
    const { contents } = this;
    const edge = contents.edgeNamed(name);
    if (edge < 0) return [el("p", {}, "This model has no such edge.")];
    const checkpoint = view.of(edge);
    const scored = (one) => withInterval(one.scores[edge], ...(one.interval(edge) ?? []));
    const share = checkpoint.inclusion(edge);
    const source = contents.sources[contents.rows[edge]];
    const port = contents.ports[contents.columns[edge]];
    const read = port ? { q: "query", k: "key", v: "value" }[port] : null;
    const change = view.change?.get(edge);
    const changed = view.changes?.set.has(edge);
    return [
      el(
        "p",
        {},
        `From ${inWords(contents.nodes.get(source))} to `,
        read ? `the ${read} of ` : "",
        contents.targets(edge).map((one) => inWords(contents.nodes.get(one))).join(" and "),
        ".",
      ),
      facts([
        ...(view.two ?? [checkpoint]).map((one) => [view.two ? `score, ${one.name}` : "score", scored(one)]),
        ["rank", `${checkpoint.ranks[edge]} of ${contents.nEdges}`],
        ["in resampled circuits", share === null ? "not counted" : `${Math.round(share * 100)} %`],
        ...(change ? [["difference", `${change}${changed ? ", changed significantly" : ""}`]] : []),
      ]),
      this.ends(edge),
    ];
  }

  ends(edge) {
    const source = this.contents.sources[this.contents.rows[edge]];
    const names = [source, ...this.contents.targets(edge)];
    return el(
      "p",
      { class: "buttons" },
      names.map((name) => button(name, () => this.act.select("node", name))),
    );
  }

  node(name, state, view) {
    const { contents } = this;
    const node = contents.nodes.get(name);
    if (!node) return [el("p", {}, "This model has no such node.")];
    const { scores } = view.checkpoint;
    const all = [...view.whole];
    const out = all.filter((edge) => contents.sources[contents.rows[edge]] === name);
    const into = all.filter((edge) => contents.targets(edge).includes(name));
    const byStrength = (a, b) => Math.abs(scores[b]) - Math.abs(scores[a]);
    const total = out.reduce((sum, edge) => sum + scores[edge], 0);
    const group = groupOf(state, name);
    const list = (title, edges) => [
      el("h5", {}, `${title} (${edges.length})`),
      el(
        "ul",
        { class: "near", "aria-label": title },
        edges
          .sort(byStrength)
          .slice(0, NEAR)
          .map((edge) => {
            const edgeName = contents.edgeName(edge);
            return el(
              "li",
              {},
              button(edgeName.replace("->", " → "), () => this.act.select("edge", edgeName)),
              ` ${figure(scores[edge])}`,
            );
          }),
      ),
    ];
    return [
      el("p", {}, `${state.names[name] ? `“${state.names[name]}”, ` : ""}${inWords(node)}.`),
      facts([
        ["role", this.role(name, into, out, scores)],
        ["sum of its out-edges", figure(total)],
        ...(group ? [["group", group]] : []),
      ]),
      ...(name === "logits" ? [] : list("Out-edges", out)),
      ...(node.kind === "input" || node.kind === "bias" ? [] : list("In-edges", into)),
    ];
  }

  /** What a node does in this circuit, in words, by where its strongest edges lead. */
  role(name, into, out, scores) {
    const { contents } = this;
    if (name === "logits") return "chooses the next token";
    if (!into.length && !out.length) return "outside this circuit";
    const mass = (edges) => edges.reduce((sum, edge) => sum + Math.abs(scores[edge]), 0);
    const whole = mass(out) || 1;
    const toLogits = out.filter((edge) => contents.targets(edge)[0] === "logits");
    const share = (edges) => Math.round((100 * mass(edges)) / whole);
    const parts = [`${share(toLogits)} % of its |score| goes straight to the logits`];
    ["q", "k", "v"].forEach((port) => {
      const those = out.filter((edge) => contents.ports[contents.columns[edge]] === port);
      const words = { q: "queries", k: "keys", v: "values" }[port];
      if (those.length) parts.push(`${share(those)} % into ${words}`);
    });
    return parts.join(", ");
  }

  /** Buttons and fields of what is chosen; they stay while it is, so that the focus stays too. */
  actions({ name, kind }) {
    const { act } = this;
    const plain = this.contents.nodes.get(name)?.kind;
    const toggles = new Map([["pinned", button("Pin", () => act.toggle("pinned", name), { "data-act": "pin" })]]);
    if (plain === "head" || plain === "mlp") {
      const cut = button("Knock out", () => act.toggle("knocked", name), { "data-act": "knock" });
      toggles.set("knocked", cut);
    }
    const field = (tag, what, text, change) =>
      el(tag, {
        type: tag === "input" ? "text" : null,
        rows: tag === "input" ? null : 2,
        "aria-label": `${what} of ${name}`,
        placeholder: text,
        "data-act": what.toLowerCase(),
        onchange: (event) => change(name, event.target.value),
      });
    const fields = [[field("textarea", "Note", "A note", act.note), (state) => state.notes[name]]];
    if (kind === "node") {
      fields.unshift(
        [field("input", "Name", "A name", act.rename), (state) => state.names[name]],
        [field("input", "Group", "A group", act.group), (state) => groupOf(state, name)],
      );
    }
    return {
      place: el("div", { class: "actions" }, ...toggles.values(), ...fields.map(([one]) => one)),
      show(state) {
        toggles.forEach((one, list) => one.setAttribute("aria-pressed", state[list].includes(name)));
        fields.forEach(([one, value]) => {
          if (one !== document.activeElement) one.value = value(state) ?? "";
        });
      },
    };
  }
}

function groupOf(state, name) {
  return Object.entries(state.groups).find(([, held]) => held.includes(name))?.[0];
}

function facts(rows) {
  return el(
    "dl",
    {},
    rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}
