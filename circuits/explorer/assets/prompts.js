// A clean and a corrupted prompt, typed: how they lie side by side, and what the model says of both.

import { button, el, figure } from "./dom.js";

const FIELDS = [
  ["clean", "Clean prompt", 2],
  ["corrupted", "Corrupted prompt", 2],
  ["correct", "Right answer (empty: what the model says)", 1],
  ["incorrect", "Wrong answer", 1],
];

export class Prompts {
  constructor(session) {
    this.session = session;
    this.fields = {};
    const rows = FIELDS.map(([name, text, lines]) => {
      const field = el("textarea", { rows: lines, id: `explorer-${name}`, spellcheck: "false", maxlength: 20000 });
      this.fields[name] = field;
      field.addEventListener("input", () => this.mark());
      field.addEventListener("keydown", (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.run();
      });
      return el("div", { class: "field" }, el("label", { for: field.id }, text), field);
    });
    this.aligned = el("div", {});
    this.result = el("div", { "aria-live": "polite" });
    this.unused = el("p", { class: "hint", role: "status", hidden: true });
    this.index = -1;
    this.latest = 0; // the request for a pair that was sent last
    this.used = null; // the fields that belong to the pair in use
    const { task } = session.given;
    this.place = el(
      "section",
      { "aria-label": "Prompts" },
      el("h3", {}, "Prompts"),
      el(
        "div",
        { class: "prompts" },
        ...rows,
        el(
          "p",
          { class: "buttons" },
          button("Run", () => this.run(), { title: "Ctrl+Enter" }),
          task ? button(`Next pair of ${task.name}`, () => this.next()) : null,
        ),
        this.unused,
      ),
      this.aligned,
      this.result,
    );
  }

  typed() {
    return Object.fromEntries(FIELDS.map(([name]) => [name, this.fields[name].value]));
  }

  async run() {
    const typed = this.typed();
    await this.asked({ do: "prompts", ...typed }, (found) => {
      this.used = typed;
      return { ...typed, do: "prompts", ends: found.ends, answers: [found.right, found.wrong] };
    });
  }

  async next() {
    this.index += 1;
    const before = JSON.stringify(this.typed());
    await this.asked({ do: "task_prompts", index: this.index }, (found, last) => {
      const text = (tokens) => tokens.map((one) => one.text).join("");
      this.used = { clean: text(found.clean), corrupted: text(found.corrupted), correct: "", incorrect: "" };
      if (last) this.index = found.index;
      if (last && JSON.stringify(this.typed()) === before) { // nobody typed in the meantime
        for (const [name, value] of Object.entries(this.used)) this.fields[name].value = value;
        this.used = this.typed(); // fields write line ends in their own way
      }
      return { do: "task_prompts", index: found.index, pair: found };
    });
  }

  /** Ask for a pair. Answers may come in another order than they were asked for: each one that is
   * taken is in use from then on, in this page as in the server, and the pair asked for last stays.
   * took: is given what was found, and whether nothing was asked for since; returns the click. */
  async asked(request, took) {
    const { session } = this;
    this.result.replaceChildren(el("p", { class: "hint" }, "Running …"));
    const { id, answer } = session.ask(request, (step) => {
      if (step.clean && id === this.latest) this.align(step.clean, step.corrupted);
    });
    this.latest = id;
    try {
      const found = await answer;
      this.align(found.clean, found.corrupted);
      this.show(found);
      session.logged({ ...took(found, id === this.latest), pair_id: id });
      session.took(found);
    } catch (error) {
      // What failed behind a later request is of no interest any more.
      if (id === this.latest) this.result.replaceChildren(el("p", { class: "error", role: "alert" }, error.message));
    }
    this.mark();
  }

  /** Say so where the fields hold something else than what is answered about. */
  mark() {
    const { used } = this;
    this.unused.hidden = !used || JSON.stringify(used) === JSON.stringify(this.typed());
    const start = (text) => (text.length > 80 ? `${text.slice(0, 80)} …` : text);
    if (!this.unused.hidden) {
      this.unused.textContent = `These prompts are not in use yet. Answers are about “${start(used.clean)}” beside “${start(used.corrupted)}”.`;
    }
  }

  /** Both prompts, token below token. */
  align(clean, corrupted) {
    const length = Math.max(clean.length, corrupted.length);
    const cells = Array.from({ length }, (_, place) => {
      const [a, b] = [clean[place], corrupted[place]];
      const same = a && b && a.id === b.id;
      return el(
        "li",
        { class: same ? null : "differs" },
        el("small", {}, String(place)),
        el("span", {}, shown(a)),
        same ? null : el("span", { class: "unseen" }, " in the corrupted prompt "),
        same ? null : el("span", {}, shown(b)),
      );
    });
    const said =
      clean.length === corrupted.length
        ? `${clean.length} tokens each; positions that differ are marked.`
        : `${clean.length} tokens and ${corrupted.length} tokens: they do not lie side by side.`;
    const list = el("ul", { class: "aligned", "aria-label": "Tokens of both prompts" }, cells);
    this.aligned.replaceChildren(list, el("p", { class: "hint", role: "status" }, said));
  }

  show(found) {
    const answers = (sets) => sets.map((some) => some.map((one) => shown(one)).join(" or ")).join(" ");
    const [clean, corrupted] = found.ends;
    const wrong = found.wrong.length ? `, wrong: ${answers(found.wrong)}` : "";
    this.result.replaceChildren(
      el(
        "p",
        {},
        found.source ? `${found.source}. ` : "",
        `Right: ${answers(found.right)}${wrong}. ${found.metric}: clean ${figure(clean)}, corrupted ${figure(corrupted)}.`,
      ),
      this.session.answers.tops(
        [
          ["Clean", found.tops.clean],
          ["Corrupted", found.tops.corrupted],
        ],
        found,
      ),
    );
  }
}

/** A token as text, with what cannot be seen made visible. */
export function shown(token) {
  if (!token) return "∅";
  return token.text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ +| +$/g, (gap) => "·".repeat(gap.length)) || "∅";
}
