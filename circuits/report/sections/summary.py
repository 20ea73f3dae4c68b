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
    for anchor, made in _FINDINGS:
        if anchor in run.omitted_sections:
            continue
        try:
            items.append(made(run))
        except MissingResultError as error:
            absent.append(str(error))
    if items:
        yield Bullets(items)
    if absent:
        yield Note(f"Not in this summary: {' '.join(dict.fromkeys(absent))}")


def _performance(run: Run) -> Finding:
    found = run.evaluation.last.performance
    if found is None:
        raise MissingResultError("whether the model does the task was not measured.")
    text = _say(
        "{} is right on *{}* of the prompts (chance {}); {} is {} on clean prompts and {} on "
        "corrupted ones (n = {}).",
        run.first_last[1],
        estimate(found.accuracy, 2),
        signed(found.chance, 2),
        found.metric,
        estimate(found.clean, 2),
        estimate(found.corrupted, 2),
        count(found.n),
    )
    if found.doubts:
        text += _say(
            " *{}*",
            "These pairs do not show that the model can do the task, so its "
            "circuit may be meaningless:",
        )
        text += _say(" {}.", typeset("; ".join(found.doubts)))
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
    last, found = run.first_last[1], run.evaluation.last
    f = found.circuit.faithfulness
    if f is None:
        raise MissingResultError(f"the faithfulness of the circuit of {last} is undefined.")
    level = found.circuit.level
    text = _say(
        "In {}, *{}* of the {}s ({}) keep f = *{}* of the behaviour (n = {}).",
        last,
        percent(found.circuit.fraction),
        level,
        size_of(found.circuit),
        estimate(f),
        count(f.n),
    )
    control = found.robustness[OWN].control
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
    found = last_curves(run)
    text = _say(
        "Over all circuit sizes {} reaches CPR *{}* and CMD *{}*",
        run.first_last[1],
        estimate(found.cpr, 2),
        estimate(found.cmd, 2),
    )
    random = found.curves.get("random")
    if random is not None:
        text += _say(
            "; random rankings reach *{}* and *{}* (n = {}).",
            estimate(random.area_f, 2),
            estimate(random.area_abs_gap, 2),
            count(found.n),
        )
    else:
        text += _say(" (n = {}); no random control was run.", count(found.n))
    return "Faithfulness curve", text + _thin_ground(run)


def _thin_ground(run: Run) -> Markup:
    """Checkpoints whose f says little, since there is little to explain."""
    curves = {name: one.curves for name, one in run.evaluation.checkpoints.items()}
    gaps = {
        name: abs(found.metric_clean - found.metric_corrupted)
        for name, found in curves.items()
        if found is not None
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
    undefined = [name for name, found in curves.items() if found is None]
    if undefined:
        text += _say(" Faithfulness is undefined in {}.", listed(undefined))
    return text


def _minimality(run: Run) -> Finding:
    found = run.evaluation.last.minimality
    if found is None:
        raise MissingResultError("minimality was not measured.")
    if isinstance(found, Undefined):
        raise MissingResultError(f"minimality is undefined: {found.undefined_reason}.")
    certain = sum(drop.excludes_zero for drop in found.drops.values())
    name, most = max(found.drops.items(), key=lambda item: item[1].value)
    text = _say(
        "*{}* of the {} {}s of {} are redundant: f changes by less than {} when one of them is "
        "removed",
        percent(found.redundant_fraction, 0),
        count(len(found.drops)),
        found.level,
        run.first_last[1],
        general(found.epsilon),
    )
    if found.control_redundant_fraction is not None:
        text += _say(
            " (random {}s from outside: *{}* of {})",
            found.level,
            percent(found.control_redundant_fraction, 0),
            count(len(found.control)),
        )
    return "Minimality", text + _say(
        ". For *{}* of them, tested {} by {}, the interval of the drop in f excludes 0; the "
        "largest drop is that of {}, *{}* (n = {}).",
        count(certain),
        found.level,
        found.level,
        name,
        estimate(most),
        count(most.n),
    )


def _robustness(run: Run) -> Finding:
    found = {name: one for name, one in run.evaluation.last.robustness.items() if name != OWN}
    if not found:
        raise MissingResultError("robustness was not measured.")
    measured = {name: one for name, one in found.items() if one.circuit is not None}
    apart = [
        name
        for name, one in measured.items()
        if one.circuit is not None and one.control is not None and one.circuit.above(one.control)
    ]
    text = _say(
        "The circuit of {} keeps {}.",
        run.first_last[1],
        listed([f"{estimate(one.circuit, 2)} under {name}" for name, one in measured.items()])
        or "no behaviour that is defined on other prompts",
    )
    if measured:
        text += _say(
            " It is better than a random circuit of its size, with intervals that do not "
            "overlap, in *{}* of {} conditions",
            count(len(apart)),
            count(len(measured)),
        )
        rest = [name for name in measured if name not in apart]
        text += _say("; not under {}." if rest else ".", *([listed(rest, "or")] if rest else []))
    undefined = [name for name in found if name not in measured]
    if undefined:
        text += _say(" Undefined under {}.", listed(undefined))
    return "Robustness", text


def _change(run: Run) -> Finding:
    overall = run.comparison.overall
    where = f"from {overall.before} to {overall.after}"
    if overall.identical:
        return "Change", _say("No score differs {}.", where)
    edges, size = overall.edges, overall.middle
    shared = size.edge_jaccard
    text = _say(
        "*{}* of {} edges changed {} at a false discovery rate of 5 % (n = {}).",
        count(len(edges.changed)),
        count(edges.tested),
        where,
        count(run.comparison.n),
    )
    if math.isnan(shared.between) or math.isnan(shared.gap.high):
        return "Change", text
    return "Change", text + _say(
        " Circuits of {} edges share *{}* of them between the two checkpoints and *{}* within one "
        "(difference {}): {}.",
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
    said = [narrative_diff.summary(diff) for diff in run.model_diff.comparisons]
    return "Attention, hidden states, neurons", _say("{}", typeset(" ".join(said)))


def _lora(run: Run) -> Finding:
    found = run.lora
    rouge = {target.name: found.spread(target.name, _rouge) for target in found.targets}
    order = sorted(rouge, key=lambda name: -rouge[name].mean)
    text = _say(
        "After {} steps, ROUGE-L by condition ({}{}): {}.",
        count(found.steps),
        "mean and range over " if len(found.seeds) > 1 else "",
        counted(len(found.seeds), "seed"),
        "; ".join(f"{name} {_over_seeds(rouge[name])}" for name in order),
    )
    first = found.targets[0].name
    apart = [one for one in found.differences if one.first == first and one.score == "ROUGE-L"]
    if apart:
        text += _say(
            " {} against each of the others: {}.",
            first,
            "; ".join(f"{one.second} {estimate(one.value)}, {one.found}" for one in apart),
        )
    loss = {target.name: found.spread(target.name, _loss) for target in found.targets}
    low = min(loss, key=lambda name: loss[name].mean)
    text += _say(" {} has the lowest held-out loss: {} nats.", low, _over_seeds(loss[low]))
    touched: dict[tuple[int, ...], list[str]] = {}
    for target in found.targets:
        if target.layers is not None:
            touched.setdefault(found.layers(target.name), []).append(target.name)
    for layers, names in touched.items():
        if len(names) > 1:
            same = ", ".join(map(str, layers))
            text += _say(" {} adapt the same layers ({}).", listed(names), same)
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
