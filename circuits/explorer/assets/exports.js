// What can be taken along: pictures, the circuit as a file, a table row, the state, the page itself.

import { evaluated } from "./controls.js";
import { button, download, el, figure } from "./dom.js";
import { palette } from "./drawing.js";
import { asSvg } from "./svg.js";
import { initial, readState, stateFile } from "./store.js";

const MOST = 2 ** 22; // bytes of a state file

export function exportsOf(contents, store, current, { graph, root, session, announce }) {
  const name = () => {
    const checkpoint = contents.checkpoints[store.state.checkpoint];
    return `circuit-${(checkpoint?.name ?? "empty").replace(/[^\w.-]+/g, "-")}`;
  };
  const json = (value) => `${JSON.stringify(value, null, 2)}\n`;
  const opener = el("input", {
    type: "file",
    accept: ".json,application/json",
    hidden: true,
    onchange: async () => {
      const [file] = opener.files;
      opener.value = "";
      if (!file) return;
      try {
        if (file.size > MOST) throw new Error("the file is too large for a state");
        const held = JSON.parse(await file.text());
        store.set(readState(contents, held, initial(contents)));
        const [asked, now] = [held.checkpoint, contents.checkpoints[store.state.checkpoint]?.name];
        const other = asked && asked !== now ? `; this run has no checkpoint ${asked}, so ${now} is shown` : "";
        announce(`Opened ${file.name}${other}`);
      } catch (error) {
        announce(`${file.name}: ${error.message}`);
      }
    },
  });
  const buttons = [
    button("PNG", async () => download(`${name()}.png`, await graph().png(), "image/png")),
    button("SVG", () => {
      const drawn = asSvg(current().picture, palette(root), current().view.said);
      download(`${name()}.svg`, drawn, "image/svg+xml");
    }),
    button("Circuit file", () => {
      const file = circuitFile(contents, store.state, current().view);
      if (file) download(`${name()}.json`, json(file), "application/json");
      else announce("There are no scores, so there is no circuit to write.");
    }),
    button("Table row", () => {
      download(`${name()}.csv`, tableRow(contents, store.state, current().view, session), "text/csv");
    }),
    button("JSON", () => {
      download(`${name()}-edges.json`, json(asJson(contents, store.state, current().view, session)), "application/json");
    }),
    button("State", () => {
      download(`${name()}-state.json`, json(stateFile(contents, store.state)), "application/json");
    }),
    button("Open a state …", () => opener.click()),
    button("This page", async () => {
      const file = stateFile(contents, store.state);
      const page = session ? await session.page(file, contents) : inPage(file);
      download(`${name()}.html`, page, "text/html");
    }),
  ];
  if (session) {
    buttons.push(button("Python", () => download("clicks.py", session.python(), "text/x-python")));
  }
  return el(
    "section",
    { class: "exports", "aria-label": "Save" },
    el("h3", {}, "Save"),
    el("div", { class: "buttons" }, ...buttons, opener),
  );
}

/** The circuit shown, as `Circuit.load` reads it. */
export function circuitFile(contents, state, view) {
  const header = view.checkpoint.raw?.circuit_file;
  if (!header) return null;
  const { scores } = view.checkpoint;
  const edges = [...view.circuit].map((edge) => ({
    edge: contents.edgeName(edge),
    score: scores[edge],
  }));
  return { ...header, edges };
}

function asJson(contents, state, view, session) {
  const { scores } = view;
  return {
    checkpoint: view.checkpoint.name ?? null,
    said: view.said,
    f: session?.measured() ?? null,
    nodes_knocked_out: state.knocked,
    edges: [...view.edges].map((edge) => ({
      edge: contents.edgeName(edge),
      score: scores[edge],
      rank: view.of(edge).ranks[edge],
      interval: view.of(edge).interval(edge),
      inclusion: view.of(edge).inclusion(edge),
      ...(view.change ? { difference: view.change.get(edge) } : {}),
    })),
    notes: state.notes,
    names: state.names,
    groups: state.groups,
    clicks: session?.log() ?? [],
  };
}

/** One row for a table of circuits, with its head. */
export function tableRow(contents, state, view, session) {
  const live = session?.measured();
  const saved = state.by === "run" && !state.knocked.length;
  const f = live ? { ...live, size: view.circuit.length } : evaluated(view.checkpoint, view.whole.length, saved);
  const row = {
    model: contents.raw.model?.name ?? "",
    checkpoint: view.checkpoint.name ?? "",
    method: view.checkpoint.raw?.method ?? "",
    edges: view.circuit.length,
    knocked_out: state.knocked.join(" "),
    metric: f?.metric ?? view.checkpoint.curve?.metric ?? "",
    f: f?.f,
    low: f?.low,
    high: f?.high,
    measured_at: f && (f.size ?? view.whole.length),
  };
  const cell = (value) => {
    const rounded = typeof value === "number" && !Number.isInteger(value);
    const text = rounded ? figure(value).replace("−", "-") : String(value ?? "");
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `${Object.keys(row).join()}\n${Object.values(row).map(cell).join()}\n`;
}

/** This very page with the state put into it: what was embedded comes along. */
function inPage(file) {
  const copy = document.documentElement.cloneNode(true);
  const root = copy.querySelector("#explorer");
  root.replaceChildren();
  root.removeAttribute("data-ready");
  // "<" is written so that no text can end the script element.
  copy.querySelector("#explorer-state").textContent = JSON.stringify(file).replaceAll("<", "\\u003c");
  copy.querySelectorAll("[data-plot]").forEach((place) => place.replaceChildren());
  return `<!doctype html>\n${copy.outerHTML}\n`;
}
