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

/** What is shown of some edges: those that pass the filters, and what is pinned. */
export function passing(contents, state, edges, scores) {
  const words = state.text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const pinned = new Set(state.pinned);
  const [low, high] = state.layers;
  return [...edges].filter((edge) => {
    const source = contents.sources[contents.rows[edge]];
    const targets = contents.targets(edge);
    const name = contents.edgeName(edge);
    if (pinned.has(name) || pinned.has(source) || targets.some((one) => pinned.has(one))) {
      return true;
    }
    const port = contents.ports[contents.columns[edge]];
    if (port && !state.ports.includes(port)) return false;
    if (state.sign === "+" && scores[edge] < 0) return false;
    if (state.sign === "-" && scores[edge] >= 0) return false;
    const layer = contents.readerLayers[contents.columns[edge]];
    const from = contents.nodes.get(source).layer;
    if (layer !== null && (layer < low || layer > high)) return false;
    if (from !== null && (from < low || from > high)) return false;
    return words.every((word) => name.toLowerCase().includes(word));
  });
}
