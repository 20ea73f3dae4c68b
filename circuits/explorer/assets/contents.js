// What the page was given, unpacked: nodes, edges, and for each checkpoint its scores.
//
// An edge is a number: its place among all edges, reader after reader. Arrays of them come as
// base64 of little-endian numbers, which is a fifth of the same in JSON.

function bytes(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let place = 0; place < raw.length; place += 1) found[place] = raw.charCodeAt(place);
  return found.buffer;
}
const floats = (text) => new Float32Array(bytes(text));
const places = (text) => new Uint32Array(bytes(text));

export class Contents {
  constructor(raw) {
    this.raw = raw;
    const { sources, readers, visible, feeds, roots } = raw.layout;
    Object.assign(this, { sources, readers, visible, feeds, roots });
    this.offsets = new Uint32Array(readers.length + 1);
    visible.forEach(([start, stop], column) => {
      this.offsets[column + 1] = this.offsets[column] + stop - start;
    });
    this.nEdges = this.offsets[readers.length];
    this.rows = new Uint16Array(this.nEdges);
    this.columns = new Uint16Array(this.nEdges);
    visible.forEach(([start, stop], column) => {
      for (let row = start, edge = this.offsets[column]; row < stop; row += 1, edge += 1) {
        this.rows[edge] = row;
        this.columns[edge] = column;
      }
    });
    this.rowOf = new Map(sources.map((name, row) => [name, row]));
    this.columnOf = new Map(readers.map((name, column) => [name, column]));
    this.nodes = new Map([...sources, "logits"].map((name) => [name, parseNode(name)]));
    this.ports = readers.map((name) => /<([qkv])>$/.exec(name)?.[1] ?? null);
    this.readerLayers = readers.map((name, column) => {
      const fed = feeds[column];
      return fed.length ? this.nodes.get(sources[fed[0]]).layer : null;
    });
    this.checkpoints = raw.checkpoints.map((one) => new Checkpoint(one, this.nEdges));
  }

  edgeName(edge) {
    return `${this.sources[this.rows[edge]]}->${this.readers[this.columns[edge]]}`;
  }

  /** The number of an edge by its name; -1 for none. */
  edgeNamed(name) {
    const [source, reader] = name.split("->");
    const row = this.rowOf.get(source);
    const column = this.columnOf.get(reader);
    if (row === undefined || column === undefined) return -1;
    const [start, stop] = this.visible[column];
    return row < start || row >= stop ? -1 : this.offsets[column] + row - start;
  }

  /** Names of the nodes at which an edge ends: heads that share a reader, one MLP, or the logits. */
  targets(edge) {
    const fed = this.feeds[this.columns[edge]];
    return fed.length ? fed.map((row) => this.sources[row]) : ["logits"];
  }

  /** Scores of a typed pair, or another set that came later, as one more checkpoint. */
  add(raw) {
    this.checkpoints.push(new Checkpoint(raw, this.nEdges));
    return this.checkpoints.length - 1;
  }

  /** What is known of the change between two checkpoints; undefined where none was compared. */
  changes(before, after) {
    const found = (this.raw.changes ?? []).find(
      (one) => one.before === before && one.after === after,
    );
    if (!found) return undefined;
    found.set ??= new Set(places(found.edges));
    return found;
  }
}

class Checkpoint {
  constructor(raw, nEdges) {
    this.name = raw.name;
    this.raw = raw;
    this.scores = raw.scores ? floats(raw.scores) : new Float32Array(nEdges);
    this.order = places(raw.order);
    this.circuit = raw.circuit ? places(raw.circuit) : null;
    this.curve = raw.curve ?? null;
    this.largest = this.scores.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
  }

  /** Rank of every edge by |score|, 1 the strongest. */
  get ranks() {
    if (!this.ranked) {
      const sorted = Uint32Array.from(this.scores.keys()).sort(
        (a, b) => Math.abs(this.scores[b]) - Math.abs(this.scores[a]) || a - b,
      );
      this.byStrength = sorted;
      this.ranked = new Uint32Array(sorted.length);
      sorted.forEach((edge, place) => {
        this.ranked[edge] = place + 1;
      });
    }
    return this.ranked;
  }

  /** [low, high] of an edge's score, or null. */
  interval(edge) {
    if (!this.raw.intervals) return null;
    if (!this.bounds) {
      const { edges, low, high } = this.raw.intervals;
      const [lows, highs] = [floats(low), floats(high)];
      this.bounds = new Map();
      places(edges).forEach((one, place) => this.bounds.set(one, [lows[place], highs[place]]));
    }
    return this.bounds.get(edge) ?? null;
  }

  /** The share of resamples that select an edge; null where it was not counted. */
  inclusion(edge) {
    if (!this.raw.inclusion) return null;
    if (!this.shares) {
      const share = floats(this.raw.inclusion.share);
      this.shares = new Map();
      places(this.raw.inclusion.edges).forEach((one, place) => this.shares.set(one, share[place]));
    }
    return this.shares.get(edge) ?? 0;
  }
}

function parseNode(name) {
  const head = /^(enc\.)?([ax])(\d+)\.h(\d+)$/.exec(name);
  const encoder = name.startsWith("enc.");
  if (head) {
    const [layer, number] = [Number(head[3]), Number(head[4])];
    return { name, kind: "head", layer, head: number, encoder, cross: head[2] === "x" };
  }
  const mlp = /^(?:enc\.)?m(\d+)$/.exec(name);
  if (mlp) return { name, kind: "mlp", layer: Number(mlp[1]), encoder, cross: false };
  return { name, kind: name.replace("enc.", ""), layer: null, encoder, cross: false };
}

/** A node in words: "head 3 of layer 5". */
export function inWords(node) {
  const side = node.encoder ? "encoder " : "";
  if (node.kind === "head") {
    const what = node.cross ? "cross-attention head" : "head";
    return `${what} ${node.head} of ${side}layer ${node.layer}`;
  }
  if (node.kind === "mlp") return `MLP of ${side}layer ${node.layer}`;
  return node.kind === "input" ? `the ${side}input` : `the ${node.kind}`;
}
