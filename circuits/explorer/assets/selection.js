// Which edges are a circuit, and which of them are shown.

/** Without the edges that lie on no path from the input to the logits: one pass up, one down. */
export function pruned(contents, edges) {
  const { rows, columns, feeds, roots } = contents;
  const sorted = Uint32Array.from(edges).sort(); // by reader, in the order of computation
  const reached = new Uint8Array(contents.sources.length);
  roots.forEach((row) => {
    reached[row] = 1;
  });
  // Edges of one reader stand together.
  const groups = [];
  for (let start = 0; start < sorted.length; ) {
    let stop = start + 1;
    while (stop < sorted.length && columns[sorted[stop]] === columns[sorted[start]]) stop += 1;
    groups.push(sorted.subarray(start, stop));
    start = stop;
  }
  for (const group of groups) {
    if (group.some((edge) => reached[rows[edge]])) {
      feeds[columns[group[0]]].forEach((row) => {
        reached[row] = 1;
      });
    }
  }
  const used = new Uint8Array(contents.sources.length);
  const kept = [];
  for (const group of groups.reverse()) {
    const fed = feeds[columns[group[0]]];
    if (fed.length && !fed.some((row) => used[row])) continue; // only the logits feed nothing
    for (const edge of group) {
      used[rows[edge]] = 1;
      if (reached[rows[edge]]) kept.push(edge);
    }
  }
  return Uint32Array.from(kept).sort();
}

/** The circuit that the state asks for at a checkpoint: pruned edges, nodes knocked out left out. */
export function circuitOf(contents, state, index = state.checkpoint) {
  const checkpoint = contents.checkpoints[index];
  if (!checkpoint) return new Uint32Array();
  let edges;
  if (state.by === "run" && checkpoint.circuit) edges = checkpoint.circuit;
  else if (state.by === "threshold") {
    edges = checkpoint.order.filter(
      (edge) => Math.abs(checkpoint.scores[edge]) >= state.threshold,
    );
  } else edges = checkpoint.order.subarray(0, state.size);
  return pruned(contents, edges);
}

/** A circuit without what some nodes write; what is then on no path goes too. */
export function knockedOut(contents, edges, nodes) {
  if (!nodes.length) return edges;
  const gone = new Set(nodes.map((name) => contents.rowOf.get(name)));
  return pruned(
    contents,
    edges.filter((edge) => !gone.has(contents.rows[edge])),
  );
}

/** Edges of two circuits: in both, in the later only, in the earlier only. */
export function difference(before, after) {
  const [old, now] = [new Set(before), new Set(after)];
  return {
    kept: [...now].filter((edge) => old.has(edge)),
    gained: [...now].filter((edge) => !old.has(edge)),
    lost: [...old].filter((edge) => !now.has(edge)),
  };
}

/** What is shown of some edges, the strongest first: those that pass the filters, and what is
 * pinned. Names are put together only where a filter asks for them. */
export function passing(contents, state, edges, scores) {
  const { sources, rows, columns, ports, readerLayers, nodes } = contents;
  const words = state.text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const pinned = new Set(state.pinned);
  const [low, high] = state.layers;
  const layerOf = sources.map((name) => nodes.get(name).layer);
  const outside = (layer) => layer !== null && (layer < low || layer > high);
  const held = (edge) =>
    pinned.has(sources[rows[edge]]) ||
    pinned.has(contents.edgeName(edge)) ||
    contents.targets(edge).some((one) => pinned.has(one));
  const kept = [];
  for (const edge of edges) {
    const port = ports[columns[edge]];
    const passes =
      (!port || state.ports.includes(port)) &&
      (state.sign === "both" || (state.sign === "+") === scores[edge] >= 0) &&
      !outside(readerLayers[columns[edge]]) &&
      !outside(layerOf[rows[edge]]) &&
      words.every((word) => contents.edgeName(edge).toLowerCase().includes(word));
    if (passes || (pinned.size && held(edge))) kept.push(edge);
  }
  const size = Float32Array.from(kept, (edge) => Math.abs(scores[edge]));
  const order = Uint32Array.from(kept.keys()).sort((a, b) => size[b] - size[a] || kept[a] - kept[b]);
  return Uint32Array.from(order, (place) => kept[place]);
}
