"""The findings in words, made from the figures: with intervals, n and controls, or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator

from markupsafe import Markup

from circuits.comparison.variance import VarianceShare
from circuits.evaluation import Undefined
from circuits.evaluation.results import OWN
from circuits.format import (
    count,
    counted,
    estimate,
    general,
    listed,
    percent,
    signed,
    typeset,
)
from circuits.report import narrative, narrative_diff
from circuits.report.blocks import Block, Bullets, Note
from circuits.report.run import Run
from circuits.report.sections.key_figures import ends_of_quality, last_curves, size_of
from circuits.runs import MissingResultError
from circuits.tuning.lora_result import Spread
from circuits.tuning.rouge import SummaryMeans

Finding = tuple[str, Markup]

_NEAR = 0.2
"""A checkpoint whose metric gap is below this share of the last one's hardly does the task."""


def findings(run: Run) -> Iterator[Block]:
    """One point a question. What the run does not answer is said below them."""
    items: list[tuple[str, str | Markup]] = []
    absent = []
    for anchor, make in _FINDINGS:
        if anchor in run.omitted_sections:
            continue
        try:
            items.append(make(run))
        except MissingResultError as error:
            absent.append(str(error))
    if items:
        yield Bullets(items)
    if absent:
        yield Note(f"Not in this summary: {' '.join(dict.fromkeys(absent))}")


def _performance(run: Run) -> Finding:
    performance = run.evaluation.last.performance
    if performance is None:
        raise MissingResultError("whether the model does the task was not measured.")
    text = _say(
        "{} is right on *{}* of the prompts (chance {}); {} is {} on clean prompts and {} on "
        "corrupted ones (n = {}).",
        run.first_last[1],
        estimate(performance.accuracy, 2),
        signed(performance.chance, 2),
        performance.metric,
        estimate(performance.clean, 2),
        estimate(performance.corrupted, 2),
        count(performance.n),
    )
    if performance.doubts:
        text += _say(
            " *{}*",
            "These pairs do not show that the model can do the task, so its "
            "circuit may be meaningless:",
        )
        text += _say(" {}.", typeset("; ".join(performance.doubts)))
    return "Task", text


def _quality(run: Run) -> Finding:
    first, last = ends_of_quality(run)
    return "Fine-tuning", _say(
        "ROUGE-L went from {} in {} to *{}* in {}, token accuracy from {} to *{}* (n = {} held-out "
        "{}s).",
        estimate(first.rougeL),
        run.first_last[0],
        estimate(last.rougeL),
        run.first_last[1],
        estimate(first.token_accuracy),
        estimate(last.token_accuracy),
        count(last.n),
        run.nouns.example,
    )


def _circuit(run: Run) -> Finding:
    last, checkpoint = run.first_last[1], run.evaluation.last
    f = checkpoint.circuit.faithfulness
    if f is None:
        raise MissingResultError(f"the faithfulness of the circuit of {last} is undefined.")
    level = checkpoint.circuit.level
    text = _say(
        "In {}, *{}* of the {}s ({}) keep f = *{}* of the behaviour (n = {}).",
        last,
        percent(checkpoint.circuit.fraction),
        level,
        size_of(checkpoint.circuit),
        estimate(f),
        count(f.n),
    )
    control = checkpoint.robustness[OWN].control
    if control is not None:
        text += _say(
            " A random circuit of as many {}s keeps *{}*: {}.",
            level,
            estimate(control),
            "the intervals do not overlap"
            if f.above(control)
            else "the intervals overlap, so the circuit is not shown to be better than chance",
        )
    return "Circuit", text


def _curve(run: Run) -> Finding:
    faithfulness = last_curves(run)
    text = _say(
        "Over all circuit sizes {} reaches CPR *{}* and CMD *{}*",
        run.first_last[1],
        estimate(faithfulness.cpr, 2),
        estimate(faithfulness.cmd, 2),
    )
    random = faithfulness.curves.get("random")
    if random is not None:
        text += _say(
            "; random rankings reach *{}* and *{}* (n = {}).",
            estimate(random.area_f, 2),
            estimate(random.area_abs_gap, 2),
            count(faithfulness.n),
        )
    else:
        text += _say(" (n = {}); no random control was run.", count(faithfulness.n))
    return "Faithfulness curve", text + _thin_ground(run)


def _thin_ground(run: Run) -> Markup:
    """Checkpoints whose f says little, since there is little to explain."""
    curves = {name: checkpoint.curves for name, checkpoint in run.evaluation.checkpoints.items()}
    gaps = {
        name: abs(curve.metric_clean - curve.metric_corrupted)
        for name, curve in curves.items()
        if curve is not None
    }
    last = run.first_last[1]
    small = [name for name, gap in gaps.items() if gap < _NEAR * gaps[last]]
    text = Markup()
    if small:
        text += _say(
            " {} hardly {} the task: clean and corrupted metric differ by {}, and by {} in {}. "
            "Shares of such a small difference say little.",
            listed(small),
            "does" if len(small) == 1 else "do",
            listed([general(gaps[name]) for name in small]),
            general(gaps[last]),
            last,
        )
    undefined = [name for name, curve in curves.items() if curve is None]
    if undefined:
        text += _say(" Faithfulness is undefined in {}.", listed(undefined))
    return text


def _minimality(run: Run) -> Finding:
    minimality = run.evaluation.last.minimality
    if minimality is None:
        raise MissingResultError("minimality was not measured.")
    if isinstance(minimality, Undefined):
        raise MissingResultError(f"minimality is undefined: {minimality.undefined_reason}.")
    certain = sum(drop.excludes_zero for drop in minimality.drops.values())
    name, largest_drop = max(minimality.drops.items(), key=lambda item: item[1].value)
    text = _say(
        "*{}* of the {} {}s of {} are redundant: f changes by less than {} when one of them is "
        "removed",
        percent(minimality.redundant_fraction, 0),
        count(len(minimality.drops)),
        minimality.level,
        run.first_last[1],
        general(minimality.epsilon),
    )
    if minimality.control_redundant_fraction is not None:
        text += _say(
            " (random {}s from outside: *{}* of {})",
            minimality.level,
            percent(minimality.control_redundant_fraction, 0),
            count(len(minimality.control)),
        )
    return "Minimality", text + _say(
        ". For *{}* of them, tested {} by {}, the interval of the drop in f excludes 0; the "
        "largest drop is that of {}, *{}* (n = {}).",
        count(certain),
        minimality.level,
        minimality.level,
        name,
        estimate(largest_drop),
        count(largest_drop.n),
    )


def _robustness(run: Run) -> Finding:
    conditions = {name: c for name, c in run.evaluation.last.robustness.items() if name != OWN}
    if not conditions:
        raise MissingResultError("robustness was not measured.")
    defined = {name: c for name, c in conditions.items() if c.circuit is not None}
    above_control = [
        name
        for name, condition in defined.items()
        if condition.circuit is not None
        and condition.control is not None
        and condition.circuit.above(condition.control)
    ]
    text = _say(
        "The circuit of {} keeps {}.",
        run.first_last[1],
        listed([f"{estimate(c.circuit, 2)} under {name}" for name, c in defined.items()])
        or "no behaviour that is defined on other prompts",
    )
    if defined:
        text += _say(
            " It is better than a random circuit of its size, with intervals that do not "
            "overlap, in *{}* of {} conditions",
            count(len(above_control)),
            count(len(defined)),
        )
        rest = [name for name in defined if name not in above_control]
        text += _say("; not under {}." if rest else ".", *([listed(rest, "or")] if rest else []))
    undefined = [name for name in conditions if name not in defined]
    if undefined:
        text += _say(" Undefined under {}.", listed(undefined))
    return "Robustness", text


def _change(run: Run) -> Finding:
    overall = run.comparison.overall
    span = f"from {overall.before} to {overall.after}"
    if overall.identical:
        return "Change", _say("No score differs {}.", span)
    edges, size = overall.edges, overall.middle
    shared = size.edge_jaccard
    text = _say(
        "*{}* of {} edges changed {} at a false discovery rate of 5 % (n = {}).",
        count(len(edges.changed)),
        count(edges.tested),
        span,
        count(run.comparison.n),
    )
    if math.isnan(shared.between) or math.isnan(shared.gap.high):
        return "Change", text
    return "Change", text + _say(
        " The Jaccard index of circuits of {} edges is *{}* between the two checkpoints and *{}* "
        "within one (difference {}): {}.",
        count(size.size),
        signed(shared.between, 2),
        signed(shared.within, 2),
        estimate(shared.gap, 2),
        narrative.verdict(shared),
    )


def _nodes_or_edges(run: Run) -> Finding:
    title = "Node changes or rewiring"
    overall, n = run.comparison.overall, count(run.comparison.n)
    split = overall.variance
    if math.isnan(split.interaction.estimate.low):
        return title, _say(
            "The change is too small to be divided into nodes and edges (n = {}).", n
        )
    text = _say(
        "Of the variance of the change, *{}* lies in what sources send, *{}* in what readers "
        "receive, and *{}* in single edges beyond both (n = {}): {}. {}",
        estimate(split.source.estimate, 2),
        estimate(split.reader.estimate, 2),
        estimate(split.interaction.estimate, 2),
        n,
        _MOSTLY[split.mostly],
        _beside_chance(split.interaction),
    )
    rewired = overall.middle.rewired_share
    if not math.isnan(rewired.estimate.low):
        text += _say(
            " Of the edges that were added or removed, *{}* were rewired between nodes of both "
            "circuits (in turnover by noise alone: {}).",
            estimate(rewired.estimate, 2),
            signed(rewired.within, 2),
        )
    return title, text


_MOSTLY = {
    "edges": "most lies in single edges",
    "nodes": "most lies in node totals",
    None: "it is not clear whether nodes or single edges hold most",
}
_BESIDE_CHANCE = {
    "below": "more of the change lies in nodes than chance gives",
    "above": "more of the change lies in single edges than chance gives",
    "within": "the split is what chance gives",
}


def _beside_chance(single: VarianceShare) -> str:
    """What the share of single edges is to be read by: a change without structure has one too."""
    if single.beside_chance is None:
        return ""
    return (
        "Swapping the checkpoints' labels at random puts "
        f"{estimate(single.permuted, 2)} into single edges: {_BESIDE_CHANCE[single.beside_chance]}."
    )


def _model_diff(run: Run) -> Finding:
    summaries = [narrative_diff.summary(diff) for diff in run.model_diff.comparisons]
    return "Attention, hidden states, neurons", _say("{}", typeset(" ".join(summaries)))


def _lora(run: Run) -> Finding:
    comparison = run.lora
    rouge = {target.name: comparison.spread(target.name, _rouge) for target in comparison.targets}
    order = sorted(rouge, key=lambda name: -rouge[name].mean)
    text = _say(
        "After {} steps, ROUGE-L by condition ({}{}): {}.",
        count(comparison.steps),
        "mean and range over " if len(comparison.seeds) > 1 else "",
        counted(len(comparison.seeds), "seed"),
        "; ".join(f"{name} {_over_seeds(rouge[name])}" for name in order),
    )
    first = comparison.targets[0].name
    differences = [
        difference
        for difference in comparison.differences
        if difference.first == first and difference.score == "ROUGE-L"
    ]
    if differences:
        text += _say(
            " {} against each of the others: {}.",
            first,
            "; ".join(
                f"{difference.second} {estimate(difference.value)}, {difference.outcome}"
                for difference in differences
            ),
        )
    loss = {target.name: comparison.spread(target.name, _loss) for target in comparison.targets}
    low = min(loss, key=lambda name: loss[name].mean)
    text += _say(" {} has the lowest held-out loss: {} nats.", low, _over_seeds(loss[low]))
    touched: dict[tuple[int, ...], list[str]] = {}
    for target in comparison.targets:
        if target.layers is not None:
            touched.setdefault(comparison.layers(target.name), []).append(target.name)
    for layers, names in touched.items():
        if len(names) > 1:
            layer_list = ", ".join(map(str, layers))
            text += _say(" {} adapt the same layers ({}).", listed(names), layer_list)
    return "LoRA", text


def _rouge(means: SummaryMeans) -> float:
    return means.rougeL


def _loss(means: SummaryMeans) -> float:
    return means.loss


_FINDINGS = (
    ("task", _performance),
    ("fine-tuning", _quality),
    ("circuits", _circuit),
    ("evaluation", _curve),
    ("evaluation", _minimality),
    ("evaluation", _robustness),
    ("comparison", _change),
    ("comparison", _nodes_or_edges),
    ("comparison", _model_diff),
    ("lora", _lora),
)
"""Each finding, and the section that it comes from."""


# -- helpers


def _say(text: str, *values: object) -> Markup:
    """Fill in the values, escaped; `*{}*` in bold."""
    return Markup(text.replace("*{}*", "<b>{}</b>")).format(*values)


def _over_seeds(spread: Spread) -> str:
    if math.isnan(spread.sd):  # of one run
        return signed(spread.mean)
    return f"{signed(spread.mean)} [{signed(spread.low)}, {signed(spread.high)}]"
