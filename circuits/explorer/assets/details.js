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
    this.place = el(
      "section",
      { class: "details", "aria-label": "What is chosen", "aria-live": "polite" },
      el("h3", {}, "Chosen"),
      this.body,
    );
  }

  show(state, view) {
    const { selected } = state;
    const key = JSON.stringify([selected, state.pinned, state.knocked, state.names, state.notes, state.groups, state.checkpoint, view.edges.length]);
    if (key === this.key) return;
    const same = this.shown === JSON.stringify(selected);
    this.key = key;
    this.shown = JSON.stringify(selected);
    if (!selected) {
      this.body.replaceChildren(
        el("p", { class: "hint" }, "Choose a node or an edge, in the drawing or in the list."),
      );
      return;
    }
    const facts = selected.kind === "node" ? this.node(selected.name, state, view) : this.edge(selected.name, view);
    const focused = document.activeElement?.getAttribute("data-act");
    const inside = this.body.contains(document.activeElement);
    const parts = [
      el("h4", {}, selected.name.replace("->", " → ")),
      ...facts,
      this.actions(selected, state),
    ];
    if (this.live) {
      this.results = same && this.results ? this.results : this.live(selected);
      parts.push(this.results);
    }
    this.body.replaceChildren(...parts);
    if (inside && focused) this.body.querySelector(`[data-act="${CSS.escape(focused)}"]`)?.focus();
  }

  edge(name, view) {
    const { contents } = this;
    const edge = contents.edgeNamed(name);
    if (edge < 0) return [el("p", {}, "This model has no such edge.")];
    const { checkpoint } = view;
    const bounds = checkpoint.interval(edge) ?? [];
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
        ["score", withInterval(checkpoint.scores[edge], ...bounds)],
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
    const all = [...(view.circuit ?? view.edges)];
    const out = all.filter((edge) => contents.sources[contents.rows[edge]] === name);
    const into = all.filter((edge) => contents.targets(edge).includes(name));
    const byStrength = (a, b) => Math.abs(scores[b]) - Math.abs(scores[a]);
    const total = out.reduce((sum, edge) => sum + scores[edge], 0);
    const group = Object.entries(state.groups).find(([, held]) => held.includes(name));
    const list = (title, edges) => [
      el("h5", {}, `${title} (${edges.length})`),
      el(
        "ul",
        { class: "near" },
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
        ...(group ? [["group", group[0]]] : []),
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

  actions(selected, state) {
    const { name, kind } = selected;
    const { act } = this;
    const pressed = (list) => (list.includes(name) ? "true" : "false");
    const plain = this.contents.nodes.get(name)?.kind;
    const note = el("textarea", {
      rows: 2,
      "aria-label": `Note on ${name}`,
      placeholder: "A note",
      "data-act": "note",
      onchange: (event) => act.note(name, event.target.value),
    });
    note.value = state.notes[name] ?? "";
    const parts = [
      button("Pin", () => act.toggle("pinned", name), {
        "aria-pressed": pressed(state.pinned),
        "data-act": "pin",
      }),
    ];
    if (kind === "node" && (plain === "head" || plain === "mlp")) {
      parts.push(
        button("Knock out", () => act.toggle("knocked", name), {
          "aria-pressed": pressed(state.knocked),
          "data-act": "knock",
        }),
      );
    }
    if (kind === "node") {
      const named = el("input", {
        type: "text",
        "aria-label": `Name of ${name}`,
        placeholder: "A name",
        "data-act": "name",
        onchange: (event) => act.rename(name, event.target.value),
      });
      named.value = state.names[name] ?? "";
      const group = el("input", {
        type: "text",
        "aria-label": `Group of ${name}`,
        placeholder: "A group",
        "data-act": "group",
        onchange: (event) => act.group(name, event.target.value),
      });
      group.value = Object.entries(state.groups).find(([, held]) => held.includes(name))?.[0] ?? "";
      parts.push(named, group);
    }
    return el("div", { class: "actions" }, ...parts, note);
  }
}

function facts(rows) {
  return el(
    "dl",
    {},
    rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}
