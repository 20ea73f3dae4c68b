// Python that repeats what was clicked. JSON's text is Python's text too.

const PAIRS = ["prompts", "task_prompts"];

const text = (value) => JSON.stringify(value);
const comment = (value) => value.replace(/[^ -~]+/g, " ");
const plain = (values) => `(${values.map((one) => `${one},`).join(" ")})`;

function answer(typed, sets) {
  if (typed) return text(typed);
  // What the model said, by its id: a token's text alone need not become that token again.
  return sets.length ? text(`#${sets[0][0].id}`) : text("");
}

function lines(click) {
  switch (click.do) {
    case "prompts": {
      const [right, wrong] = click.answers;
      return [
        "pairs = typed_pairs(",
        "    model,",
        `    clean=${text(click.clean)},`,
        `    corrupted=${text(click.corrupted)},`,
        `    correct=${answer(click.correct, right)},`,
        `    incorrect=${answer(click.incorrect, click.incorrect || !click.correct ? wrong : [])},`,
        ")",
      ];
    }
    case "task_prompts": {
      // A task's prompts may hold control tokens, so they are repeated by their ids.
      const { clean, corrupted, right, wrong, metric, source } = click.pair;
      const length = clean.length - (right.length - 1); // the rest is the answer's
      const ids = (tokens) => plain(tokens.slice(0, length).map((one) => one.id));
      const sets = (some) => plain(some.map((set) => plain(set.map((one) => one.id))));
      return [
        `# ${comment(source ?? "a pair of the task")}`,
        "pairs = PairSet(",
        `    (PromptPair(${ids(clean)}, ${ids(corrupted)}, ${sets(right)}, ${sets(wrong)}),),`,
        `    metric=${text(metric)},`,
        ")",
      ];
    }
    case "edge": {
      const given = click.direction === "noise" ? "pairs" : "swapped(pairs)";
      const back = click.direction === "noise" ? "" : "  # the corrupted prompt, with this edge restored";
      return [`print(${text(click.edge)}, circuits.patch_edges(model, ${given}, [${text(click.edge)}], metric=pairs.metric).values)${back}`];
    }
    case "site": {
      const unit = click.unit === undefined ? "" : `, heads=${plain([click.unit])}`;
      const place = click.position === undefined ? "" : `, positions=${plain([click.position])}`;
      return [
        `spec = circuits.PatchSpec(${text(click.site)}, ${text(click.direction)}, sweep=("layer",), layers=${plain([click.layer])}${place}${unit})`,
        "print(spec, circuits.patch(model, pairs, spec).mean())",
      ];
    }
    case "sweep":
      return [
        `spec = circuits.PatchSpec(${text(click.site)}, ${text(click.direction)}, sweep=("layer", ${text(click.by)}))`,
        "print(circuits.patch(model, pairs, spec).recovery().value)",
      ];
    case "circuit":
      return [
        `circuit = circuits.Circuit.of(model.layout, ${text(click.edges)})`,
        "print(len(circuit), measure(model, pairs, [circuit]).circuits)",
      ];
    case "score":
      if (click.of === "task") return ["# here the task's own pairs were scored: circuits discover --task"];
      return ['scores = circuits.attribute(model, pairs, "eap-ig", steps=5)', "print(scores.top(10))"];
    default:
      return [];
  }
}

/** Every click, behind its pair where another one stands before it. */
function inOrder(clicks) {
  const pairs = new Map(clicks.filter((one) => PAIRS.includes(one.do)).map((one) => [one.pair_id, one]));
  let now = null;
  return clicks.flatMap((click) => {
    const pair = pairs.get(click.pair_id) ?? null;
    if (!pair || pair === now) return [click];
    now = pair;
    return pair === click ? [click] : [pair, click];
  });
}

export function pythonOf(given, clicks) {
  const head = [
    '"""What was clicked in the explorer."""',
    "",
    "import circuits",
    "from circuits.evaluation.measure import measure",
    "from circuits.explorer.live.typed import swapped, typed_pairs",
    "from tasks.pairs import PairSet, PromptPair",
    "",
    `model = ${given.load}`,
  ];
  return `${[...head, ...inOrder(clicks).flatMap(lines)].join("\n")}\n`;
}
