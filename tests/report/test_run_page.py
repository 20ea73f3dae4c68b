from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from plotly.offline import get_plotlyjs

from circuits import CircuitsError
from circuits.comparison.overlap import Overlap
from circuits.evaluation import CheckpointEvaluation, Evaluation, Undefined
from circuits.format import signed
from circuits.importance import LayerImportance
from circuits.report import run_page as pages
from circuits.report import write_report
from circuits.report.blocks import Block, Figure, Section
from circuits.report.run import Run
from circuits.report.run_page import SECTIONS
from circuits.report.sections.completeness import gaps
from circuits.runs import open_run
from circuits.runs.records import ExampleFile, Segment
from circuits.runtime.files import read_json, write_json
from circuits.tuning.lora_result import LoraComparison
from circuits.tuning.training_log import TrainingLog


class Page(HTMLParser):
    """What the tests ask of a page: its words, its attributes, its scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.scripts: dict[str, str] = {}
        self._inside: list[str] = []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside.append(dict(attrs).get("id") or tag if tag == "script" else tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag in ("script", "style"):
            self._inside.append("")

    def handle_data(self, data: str) -> None:
        where = self._inside[-1] if self._inside else ""
        if where in ("plots", "theme", "script"):
            self.scripts[where] = self.scripts.get(where, "") + data
        elif where != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def html(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    copy = shutil.copytree(whole_run, tmp_path_factory.mktemp("page") / "fake")
    path = write_report(copy)
    assert path == copy / "report.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_section_is_there_and_in_the_contents(page: Page) -> None:
    anchors = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert anchors == [section.anchor for section in SECTIONS]
    assert links == [f"#{anchor}" for anchor in anchors]
    assert "could not be made" not in page.text
    assert "is not in the run folder" not in page.text


def test_nothing_is_loaded(html: str, page: Page) -> None:
    assert html.count(get_plotlyjs()) == 1
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "data"):
            assert value == "data:," or value.startswith("#"), (tag, name, value)
    rest = html.replace(get_plotlyjs(), "")
    assert "@import" not in rest and "url(" not in rest and "http" not in rest
    assert len(rest) < 2_000_000


def test_the_same_files_give_the_same_bytes(html: str, folder: Path) -> None:
    assert write_report(folder).read_text(encoding="utf-8") == html


def test_the_summary_holds_the_numbers_of_the_files(page: Page, whole_run: Path) -> None:
    circuit = Run(whole_run).evaluation.last.circuit
    assert "0.044 [0.024, 0.064] in base to 0.967 [0.947, 0.987] in step-300" in page.text
    assert f"({circuit.size} edges, {circuit.n_nodes} nodes)" in page.text
    assert "f = 0.913 [0.893, 0.933] of the behaviour (n = 100)" in page.text
    assert "keeps 0.040 [0.010, 0.070]: the intervals do not overlap" in page.text
    assert "random rankings reach 0.25 [0.22, 0.28] and 0.75 [0.72, 0.78]" in page.text
    assert "0.55 [0.52, 0.58] under filler and 0.06 [0.03, 0.09] under shuffle" in page.text
    assert "not under shuffle" in page.text
    edges = open_run(whole_run).comparison.overall.edges
    changed = len(edges.changed)
    assert changed > 0
    assert f"{changed} of {edges.tested} edges changed" in page.text


def test_the_best_step_is_named(folder: Path) -> None:
    said = "On the validation set the loss was lowest"
    log = TrainingLog.load(folder / "checkpoints/training_log.json")
    for place, change, expected in (
        (0, {}, "at step 300 (0.149), checkpoint step-300."),
        (2, {"loss": 0.1}, "(0.100), which was not saved."),
        (0, {"loss": 0.01, "step": 0}, "before training: the base model's."),
    ):
        entries = list(log.validation)
        entries[place] = replace(entries[place], **change)
        changed = log.model_copy(update={"validation": tuple(entries)})
        changed.save(folder / "checkpoints/training_log.json")
        text = Page(write_report(folder).read_text(encoding="utf-8")).text
        (sentence,) = re.findall(f"{said} .*?(?:saved|model's|step-300)\\.", text)
        assert expected in sentence


def test_the_loss_of_the_loras_is_not_called_one_of_validation(html: str, page: Page) -> None:
    assert "standard has the lowest held-out loss: 1.290" in page.text
    assert "lowest held-out loss" in html and "lowest validation loss:" not in html


def test_a_checkpoint_that_hardly_does_the_task_is_said(page: Page) -> None:
    assert "base hardly does the task" in page.text


def test_overlapping_conditions_are_not_ranked(folder: Path) -> None:
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    said = (
        "standard against each of the others: attention-kl 0.030 [\u22120.020, 0.100], not shown; "
    )
    assert said in text
    assert "none 0.600 [0.550, 0.670], better" in text
    lora = LoraComparison.load(folder / "lora.json")
    lora.model_copy(update={"differences": ()}).save(folder / "lora.json")
    assert "standard against" not in Page(write_report(folder).read_text(encoding="utf-8")).text


def test_a_circuit_no_better_than_chance_is_said(folder: Path) -> None:
    found = read_json(folder / "evaluation.json")
    found["checkpoints"]["step-300"]["robustness"]["evaluate"]["control"]["high"] = 0.95
    write_json(folder / "evaluation.json", found)
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "the intervals overlap, so the circuit is not shown to be better than chance" in text


def test_greedy_sets_share_a_row_where_a_circuit_has_fewer_random_ones(folder: Path) -> None:
    evaluation = read_json(folder / "evaluation.json")
    first, *_, last = (
        evaluation["checkpoints"][name]["completeness"] for name in evaluation["order"]
    )
    first["random"] = first["random"][:1]
    last["n_requested"] = 10
    write_json(folder / "evaluation.json", evaluation)
    figure = next(block for block in gaps(Run(folder)) if isinstance(block, Figure))
    rows = [round(y) for y in figure.views[""]["data"][0]["y"]]
    assert rows == [0, 3], "one random set, and the greedy one beside the others' greedy ones"
    assert figure.method.settings["random sets"].startswith("3 of 10: ")


def test_undefined_faithfulness_is_said(folder: Path) -> None:
    found = Evaluation.load(folder / "evaluation.json")
    reason = "faithfulness is not defined: the metric is 1 on both"
    base = CheckpointEvaluation(
        circuit=found.checkpoints["base"].circuit.model_copy(update={"faithfulness": None}),
        faithfulness=Undefined(undefined_reason=reason),
    )
    changed = {"checkpoints": {**found.checkpoints, "base": base}}
    found.model_copy(update=changed).save(folder / "evaluation.json")
    text = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert f"base: {reason}" in text
    assert "Faithfulness is undefined in base." in text
    assert "could not be made" not in text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("evaluation.json", "evaluation.json is not in the run folder."),
        ("comparison.json", "comparison.json is not in the run folder."),
        ("model_diff.json", "model_diff.json is not in the run folder."),
        ("lora.json", "lora.json is not in the run folder."),
        ("recipe.yaml", "recipe.yaml is not in the run folder."),
        ("environment.json", "environment.json is not in the run folder."),
        ("pairs", "pairs/example.json is not in the run folder."),
        ("scores", "There are no score files under scores/."),
        ("circuits", "There are no circuits under circuits/."),
        ("checkpoints", "There is no training_log.json under checkpoints/."),
    ],
)
def test_what_is_missing_is_said(folder: Path, missing: str, said: str) -> None:
    path = folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert said in page.text
    assert "could not be made" not in page.text
    anchors = [value for tag, name, value in page.attributes if (tag, name) == ("section", "id")]
    assert anchors == [section.anchor for section in SECTIONS]


def test_an_empty_run_still_makes_a_page(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("is not in the run folder") >= len(SECTIONS)


def test_a_broken_file_is_refused_by_name(folder: Path) -> None:
    (folder / "lora.json").write_text("{", encoding="utf-8")
    with pytest.raises(CircuitsError, match=r"lora\.json: not a JSON file"):
        write_report(folder)


def test_a_file_of_another_kind_is_refused_by_name(folder: Path) -> None:
    write_json(folder / "model_diff.json", {"unexpected": 1})
    with pytest.raises(CircuitsError, match=r"model_diff\.json: a file that names no kind"):
        write_report(folder)


def test_a_bug_in_a_section_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(run: Run) -> list[Block]:
        raise KeyError("a typing error")

    monkeypatch.setattr(pages, "SECTIONS", (Section("summary", "Summary", (broken,)),))
    with pytest.raises(KeyError, match="a typing error"):
        write_report(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitsError, match="no such run folder"):
        Run(tmp_path / "nowhere")


def test_text_from_outside_is_escaped(html: str, page: Page) -> None:
    assert "Rain <b>fell</b> & fell in Ardon." in page.text
    assert "Rain <b>fell" not in html
    assert "&lt;|endoftext|&gt;" in html


def test_names_cannot_close_the_data_script(folder: Path) -> None:
    lora = LoraComparison.load(folder / "lora.json")
    bad = LayerImportance("</script><script>alert(1)</script>", (1.0, 0.0, 0.0, 0.0))
    lora.model_copy(update={"importance": (bad,)}).save(folder / "lora.json")
    html = write_report(folder).read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "alert(1)" in json.dumps(json.loads(Page(html).scripts["plots"]))


def test_a_task_without_articles_is_not_called_one_of_summaries(folder: Path) -> None:
    pieces = (("Ana Bell resigned as", False), (" judge", True), (" of", False))
    ExampleFile(
        title="pairs.csv, row 1",
        answer="Ardon",
        clean_prompt="Ana Bell resigned as mayor of",
        corruptions={
            "corrupted": tuple(Segment(text=text, corrupted=there) for text, there in pieces)
        },
    ).save(folder / "pairs" / "example.json")
    html = write_report(folder).read_text(encoding="utf-8").replace(get_plotlyjs(), "")
    assert "continues with an answer" in html and "<span>Answer</span>Ardon" in html
    assert "<mark> judge</mark>" in html and "100 held-out examples" in html
    assert "Cross entropy of the target&#39;s tokens, given the tokens before" in html
    text = Page(html).text.lower()
    assert not [word for word in ("article", "summaries", "a summary") if word in text]
    assert "summary token" not in html


def test_masked_sentences_are_marked(html: str) -> None:
    masked = re.findall(r'<span class="sentence masked">(.*?)<sup>', html)
    assert masked == ["Lena Voss resigned as mayor of Ardon.", "The step came after protests."]
    assert "<mark>&lt;|endoftext|&gt;&lt;|endoftext|&gt;</mark>" in html
    assert "<mark>Otto Grau </mark>resigned as <mark>judge </mark>of <mark>Senn. </mark>" in html


def test_what_adapters_and_neurons_carry_is_told_where_it_was_asked(
    page: Page, folder: Path
) -> None:
    """The control decides what overlap says; a run that does not ask says nothing of it."""
    assert "Does an adapter build the same circuit?" in page.text
    assert "circuit-seed-0" in page.text and "0.0123" in page.text
    found = open_run(folder).lora_circuits
    assert found.base in found.apart and "random-seed-0" in found.apart
    assert "The circuit of base, the control, shares less with that of step-300" in page.text
    told = found.overlap("base")
    assert told.weighted_jaccard.below_ceiling and "other scores" in page.text
    assert signed(told.weighted_jaccard.gap.value) in page.text
    sure = found.model_copy(update={"overlaps": tuple(map(_as_like, found.overlaps))})
    sure.save(folder / "lora_circuits.json")
    again = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "24 examples cannot tell: even the circuit of base, which was not trained" in again
    assert "all neurons of all MLPs together undo 0.800 [0.770, 0.830]" in page.text
    assert "the sum of these shares is 0.630" in page.text
    assert "0.315 (0.310 to 0.320)" in page.text
    for name in ("lora_circuits.json", "restoration.json"):
        (folder / name).unlink()
    without = Page(write_report(folder).read_text(encoding="utf-8")).text
    assert "build the same circuit" not in without and "few neurons carry it" not in without
    assert "is not in the run folder" not in without


def _as_like(one: Overlap) -> Overlap:
    """The overlap, with gaps that hold 0."""
    middle = one.middle
    wide = replace(middle.edge_jaccard, gap=replace(middle.edge_jaccard.gap, high=0.01))
    sizes = tuple(
        replace(size, edge_jaccard=wide) if size is middle else size for size in one.sizes
    )
    return replace(one, sizes=sizes)
