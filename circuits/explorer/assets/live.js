// The page beside a model: a socket to the local server, and what is asked over it.

import { Answers } from "./answers.js";
import { button, count, el, figure, withInterval } from "./dom.js";
import { Heat } from "./heat.js";
import { Prompts } from "./prompts.js";
import { pythonOf } from "./python.js";

const WAIT = 250; // ms of quiet before a circuit is measured

/** Ask the server for its data and open its socket. */
export async function connect() {
  const token = new URLSearchParams(window.location.search).get("token") ?? "";
  const query = `token=${encodeURIComponent(token)}`;
  const answer = await fetch(`contents?${query}`);
  if (!answer.ok) throw new Error(await answer.text());
  const raw = await answer.json();
  const given = raw.live;
  if (!given) return { raw, live: null };
  const link = new Link(`${window.location.protocol === "https:" ? "wss" : "ws"}://${window.location.host}/live?${query}`);
  await link.open();
  return { raw, live: (contents, store, act) => new Session(link, given, contents, store, act) };
}

/** Requests and their answers. */
class Link {
  constructor(address) {
    this.address = address;
    this.waiting = new Map();
    this.next = 1;
    this.lost = () => {};
  }

  open() {
    return new Promise((resolve, reject) => {
      this.socket = new WebSocket(this.address);
      this.socket.onopen = resolve;
      this.socket.onerror = () => reject(new Error("the server does not answer"));
      this.socket.onclose = () => {
        this.waiting.forEach((one) => one.error("the server is gone"));
        this.waiting.clear();
        this.lost();
      };
      this.socket.onmessage = (event) => this.take(JSON.parse(event.data));
    });
  }

  take({ id, what, ...content }) {
    const one = this.waiting.get(id);
    if (!one) return;
    if (what === "step") one.step(content);
    else {
      this.waiting.delete(id);
      if (what === "done") one.done(content);
      else if (what === "cancelled") one.cancelled();
      else one.error(content.said);
    }
  }

  /** Ask for something. Returns {id, answer: a promise}; `step` is told what is known so far. */
  ask(request, step = () => {}) {
    const id = this.next;
    this.next += 1;
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, {
        step,
        done: resolve,
        error: (said) => reject(new Error(said)),
        cancelled: () => reject(Object.assign(new Error("cancelled"), { cancelled: true })),
      });
    });
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ id, ...request }));
    } else this.take({ id, what: "error", said: "the server is gone; start it again, and reload" });
    return { id, answer };
  }

  cancel(id) {
    if (this.waiting.has(id)) this.socket.send(JSON.stringify({ id: 0, do: "cancel", of: id }));
  }
}

class Session {
  constructor(link, given, contents, store, act) {
    Object.assign(this, { link, given, contents, store, act });
    this.clicks = []; // what was asked and answered, for Python and JSON
    this.pair = null;
    this.found = null; // of the circuit shown
    this.listeners = [];
    link.lost = () => act.announce("The server is gone. Start it again, and reload this page.");
    this.circuitPlace = el("div", { class: "measured", "aria-live": "polite" });
    this.scoring = el("div", { class: "scoring" });
    this.prompts = new Prompts(this);
    this.heat = given.patches ? new Heat(this) : null;
    this.answers = new Answers(this);
    this.about = (selected) => this.answers.about(selected);
    this.empty = this.invitation();
    this.place = el(
      "div",
      { class: "live" },
      this.prompts.place,
      el(
        "section",
        { "aria-label": "The circuit on these prompts" },
        el("h3", {}, "The circuit on these prompts"),
        this.circuitPlace,
        el("h3", {}, "Edge scores"),
        this.scoreButtons(),
        this.scoring,
      ),
      ...(this.heat ? [this.heat.place] : []),
    );
  }

  /** What stands in the drawing's place until there are scores. */
  invitation() {
    const { task } = this.given;
    const [words, text] = task
      ? [`A pair of ${task.name} is taken below.`, "Score its edges"]
      : ["Type a clean and a corrupted prompt below and run them; then", "Score their edges"];
    return el("div", { class: "empty" }, el("p", {}, words), button(text, () => this.score("pair")));
  }

  ask(request, step) {
    return this.link.ask(request, step);
  }

  /** Ask about the pair in use, and about no other that the server may have taken meanwhile. */
  askOfPair(request, step) {
    return this.ask({ ...request, pair_id: this.pair?.pair_id ?? null }, step);
  }

  /** The page stands: take the task's first pair, so that there is something to click. */
  begin() {
    this.empty.hidden = this.contents.checkpoints.length > 0;
    if (this.given.task) this.prompts.next();
  }

  listen(act) {
    this.listeners.push(act);
  }

  /** The window looks at another pair. */
  took(pair) {
    this.pair = pair;
    this.heat?.reset();
    this.answers.reset();
    this.circuitPlace.replaceChildren(); // what stands there is of the old pair
    this.measure();
  }

  /** Keep a click; of circuits measured one after the other, the last.
   * Its pair_id says which pair it is about: that of the request that took the pair. */
  logged(click) {
    if (click.do === "circuit" && this.clicks.at(-1)?.do === "circuit") this.clicks.pop();
    this.clicks.push(click);
  }

  log() {
    return this.clicks;
  }

  python() {
    return pythonOf(this.given, this.clicks);
  }

  async page(state, contents) {
    const added = contents.checkpoints.map((one) => one.raw).filter((raw) => raw.added);
    const { answer } = this.ask({ do: "page", state, added });
    return (await answer).page;
  }

  /** Another circuit is shown: measure it, once the reader has stopped moving. */
  circuit(view) {
    this.edges = [...view.circuit];
    this.found = null;
    this.progress = null;
    clearTimeout(this.timer);
    if (this.running) this.link.cancel(this.running);
    this.timer = setTimeout(() => this.measure(), WAIT);
  }

  async measure() {
    clearTimeout(this.timer);
    if (!this.contents.checkpoints.length || (!this.pair && !this.given.task)) {
      this.circuitPlace.replaceChildren(el("p", { class: "hint" }, this.hint()));
      return;
    }
    if (this.running) this.link.cancel(this.running);
    const edges = this.edges;
    let mine;
    const late = () => edges !== this.edges || mine !== this.running; // another circuit or pair
    const pairId = this.pair?.pair_id ?? null;
    const { id, answer } = this.askOfPair({ do: "circuit", edges }, (step) => {
      if (late()) return;
      if (step.of) this.say(`f on ${this.given.task.n} pairs: ${step.done} of ${step.of} done`);
      else this.shown(step);
    });
    mine = this.running = id;
    try {
      const found = await answer;
      if (late()) return;
      this.found = found;
      this.shown(found);
      const names = edges.map((edge) => this.contents.edgeName(edge));
      this.logged({ do: "circuit", edges: names, pair: found.pair ?? null, task: found.task ?? null, pair_id: pairId });
    } catch (error) {
      if (!error.cancelled && !late()) this.circuitPlace.replaceChildren(el("p", { class: "error" }, error.message));
    }
    this.listeners.forEach((act) => act());
  }

  hint() {
    if (!this.contents.checkpoints.length) return "There is no circuit yet: score the edges below.";
    return "Run a pair of prompts to see what this circuit makes of it.";
  }

  say(text) {
    this.progress = text;
    this.listeners.forEach((act) => act());
  }

  shown(found) {
    const { pair } = found;
    const parts = [];
    if (pair) {
      parts.push(
        el(
          "p",
          {},
          `${count(found.size)} edges: ${pair.metric} ${figure(pair.value)}, `,
          pair.recovery === null ? "no gap to keep a share of" : `f = ${figure(pair.recovery)}`,
        ),
        this.answers.tops([["This circuit", pair.tops]]),
      );
    }
    this.circuitPlace.replaceChildren(...parts);
  }

  /** What is known of f: of the circuit as it is now, in this model. */
  f() {
    const { task } = this.given;
    if (!task) return null;
    if (!this.found?.task) return this.edges?.length ? (this.progress ?? null) : null;
    const { f, low, high, n } = this.found.task;
    return `f = ${withInterval(f, low ?? NaN, high ?? NaN)} (measured now in ${this.given.model}, n = ${n})`;
  }

  measured() {
    return this.found?.task ?? null;
  }

  scoreButtons() {
    const { task } = this.given;
    return el(
      "p",
      { class: "buttons" },
      button("Score the edges of this pair", () => this.score("pair")),
      task
        ? button(`… of ${task.n} pairs of ${task.name}`, () => this.score("task"), {
            "aria-label": `Score the edges of ${task.n} pairs of ${task.name}`,
          })
        : null,
    );
  }

  /** Score every edge of the pair, or of the task's pairs; then show the circuit of those scores. */
  async score(of) {
    const bar = el("progress", { max: 1, value: 0, "aria-label": "Edge scores" });
    const pairId = this.pair?.pair_id ?? null;
    const { id, answer } = this.askOfPair({ do: "score", of }, ({ done }) => {
      bar.value = done;
    });
    const stop = button("Cancel", () => this.link.cancel(id), { "aria-label": "Cancel scoring" });
    this.scoring.replaceChildren(bar, stop);
    try {
      const { checkpoint } = await answer;
      const taken = new Set(this.contents.checkpoints.map((one) => one.name));
      for (let n = 2; taken.has(checkpoint.name); n += 1) {
        checkpoint.name = `${checkpoint.name.replace(/ #\d+$/, "")} #${n}`;
      }
      const index = this.contents.add({ ...checkpoint, added: true });
      this.empty.hidden = true;
      this.scoring.replaceChildren(el("p", {}, `Scored: ${checkpoint.name}`));
      this.act.announce(`Scored: ${checkpoint.name}. Its strongest edges are drawn.`);
      this.logged({ do: "score", of, pair_id: of === "pair" ? pairId : null });
      const size = Math.min(50, this.contents.nEdges);
      this.store.set({ checkpoint: index, by: "size", size });
      this.act.refresh();
    } catch (error) {
      this.scoring.replaceChildren(el("p", { class: error.cancelled ? "hint" : "error" }, error.message));
      this.act.announce(error.message);
    }
  }
}
