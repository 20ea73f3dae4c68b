// Where nodes stand: the input below, layers above each other, the logits on top. Heads stand in
// the order of their numbers, MLPs to their right, as in the report's figures.

const ACROSS = 56;
const UP = 54;
const PORTS = { q: -0.1, k: 0, v: 0.1 };

/** Name -> {x, y}, in pixels; y grows downwards. */
export function placement(contents) {
  const nodes = [...contents.nodes.values()];
  const heights = new Map();
  const row = (node) => {
    const kind = node.kind === "bias" ? "input" : node.kind;
    const key = [node.encoder, node.layer, kind, node.cross].join();
    if (!heights.has(key)) heights.set(key, heights.size);
    return heights.get(key);
  };
  const widest = Math.max(1, ...nodes.map((node) => (node.head ?? 0) + 1));
  const right = (widest + 0.15) * ACROSS;
  const x = (node) => {
    if (node.kind === "head") return node.head * ACROSS;
    if (node.kind === "mlp") return right;
    return node.kind === "bias" ? right / 2 + ACROSS : right / 2;
  };
  const places = new Map();
  nodes.forEach((node) => places.set(node.name, { x: x(node), y: -row(node) * UP }));
  const floors = new Map();
  nodes.forEach((node) => {
    if (node.layer === null) return;
    const name = `${node.encoder ? "encoder " : ""}layer ${node.layer}`;
    floors.set(name, [...(floors.get(name) ?? []), places.get(node.name).y]);
  });
  const middles = [...floors].map(([text, ys]) => ({
    text,
    x: -1.4 * ACROSS,
    y: (Math.min(...ys) + Math.max(...ys)) / 2,
  }));
  return { places, right, floors: middles };
}

/** The two control points of an edge: it leaves upwards and arrives from below; edges within one
 * column bow aside, and q, k and v arrive side by side. */
export function controls(from, to, port, right) {
  const shift = (port ? PORTS[port] : 0) * ACROSS;
  const height = from.y - to.y; // above 0: edges lead upwards
  let rise = height * 0.45;
  let bow = 0;
  if (Math.abs(from.x - to.x) < 1) {
    const floors = height / UP;
    const side = from.x > right / 2 ? 1 : -1;
    bow = floors > 1 ? side * Math.min(0.85, 0.2 + 0.11 * floors) * ACROSS : 0;
    rise = height * 0.3;
  }
  return [
    { x: from.x + bow, y: from.y - rise },
    { x: to.x + bow + 2 * shift, y: to.y + rise },
  ];
}

/** A control point as Cytoscape takes it: how far along the straight line, and how far beside. */
export function besideLine(from, to, point) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const [px, py] = [point.x - from.x, point.y - from.y];
  return {
    weight: (px * dx + py * dy) / (length * length),
    distance: (px * -dy + py * dx) / length,
  };
}
