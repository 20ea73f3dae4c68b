// The keyboard: everything that the pointer does.

const STEP = 60;

export function keys(root, stage, { contents, store, graph, act, current }) {
  root.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !typing) {
      if (event.shiftKey) store.redo();
      else store.undo();
      event.preventDefault();
    }
  });
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, shiftKey } = event;
    const { selected } = store.state;
    const acts = {
      "+": () => graph.zoom(1.25),
      "=": () => graph.zoom(1.25),
      "-": () => graph.zoom(0.8),
      0: () => graph.fit(),
      p: () => selected && act.toggle("pinned", selected.name),
      x: () => knockable(contents, selected) && act.toggle("knocked", selected.name),
      Escape: () => act.select(null, null),
    };
    const arrows = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (key in arrows) {
      const [across, up] = arrows[key];
      if (shiftKey) graph.pan(-across * STEP, up * STEP);
      else walk(across, up);
    } else if (key in acts) acts[key]();
    else return;
    event.preventDefault();
  });

  /** Up and down along the strongest edge, left and right among nodes of one height. */
  function walk(across, up) {
    const { view, picture } = current();
    const { selected } = store.state;
    if (!picture.nodes.length) return;
    if (selected?.kind !== "node" || !picture.nodes.some((one) => one.name === selected.name)) {
      const line = picture.lines.find((one) => one.name === selected?.name);
      const name = line ? (up > 0 ? line.target : line.source) : "logits";
      act.select("node", picture.nodes.some((one) => one.name === name) ? name : picture.nodes[0].name);
      return;
    }
    const { name } = selected;
    if (across) {
      const mine = picture.nodes.find((one) => one.name === name).place;
      const row = picture.nodes
        .filter((one) => one.place.y === mine.y)
        .sort((a, b) => a.place.x - b.place.x);
      const at = row.findIndex((one) => one.name === name);
      act.select("node", row[(at + across + row.length) % row.length].name);
      return;
    }
    const lines = picture.lines.filter((one) => (up > 0 ? one.source : one.target) === name);
    lines.sort((a, b) => Math.abs(view.scores[b.edge]) - Math.abs(view.scores[a.edge]));
    if (lines.length) act.select("node", up > 0 ? lines[0].target : lines[0].source);
  }
}

/** Whether what is chosen can be knocked out: a head or an MLP. */
export function knockable(contents, selected) {
  const kind = selected?.kind === "node" && contents.nodes.get(selected.name)?.kind;
  return kind === "head" || kind === "mlp";
}
