"""A recipe about one model: no checkpoints, activation patching, whether it does the task."""

import pytest

from circuits.errors import CircuitsError, TooFewError
from circuits.graph import Circuit
from circuits.intervention.patching import Patching, patch
from circuits.models import HookedModel
from circuits.pipeline import load_recipe, run
from circuits.pipeline.data import Data
from circuits.runs import open_run
from tasks.pairs import PairSet

ONE_MODEL = [
    "finetune=null",
    "lora=null",
    "model_diff=null",
    "circuit.ranking=auto",
    "circuit.choose=4",
    "pairs.score=6",
    "pairs.evaluate=8",
    "evaluation.corruptions=[]",
    "evaluation.perturbations=[]",
    "evaluation.other_examples=0",
    "evaluation.minimality=null",
    "evaluation.completeness=null",
    "evaluation.stability.n_resamples=20",
    "evaluation.quality=null",
    "evaluation.ablations=[]",
    "evaluation.rivals=null",
    "evaluation.null_model={}",
    "patching={pairs: 2}",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "one"
    run(load_recipe("quickstart", ONE_MODEL), folder, progress=False)
    return folder


def test_the_base_is_scored_evaluated_and_patched_and_nothing_is_compared(folder):
    found = open_run(folder).evaluation
    assert len(found.last.null_model.draws) == 1 and found.last.rivals is None
    assert found.order == ("base",) and found.last.curves is not None
    performance = found.last.performance
    assert performance.n == 6 and 0 <= performance.chance < 1
    for name in ("comparison.json", "cross_evaluation.json", "model_diff.json", "lora.json"):
        assert not (folder / name).exists()


def test_without_pairs_to_choose_it_on_the_ranking_is_absolute(tmp_path, monkeypatch, caplog):
    made = Data.pairs_of

    def few(data, split, n, **changes):
        if n > 8:
            raise TooFewError(f"rows.csv: {n} rows are asked for, and there are 8", 8)
        return made(data, split, n, **changes)

    monkeypatch.setattr(Data, "pairs_of", few)
    least = ("patching=null", *(f"evaluation.{part}=null" for part in ("null_model", "stability")))
    run(load_recipe("quickstart", [*ONE_MODEL, *least]), tmp_path, progress=False)
    selection = Circuit.load(tmp_path / "circuits" / "base.json").provenance.selection
    assert selection.ranking == "absolute" and selection.choice is None
    assert "the ranking is absolute, for none can be chosen: rows.csv: 10 rows" in caplog.text


def test_the_ranking_is_chosen_on_pairs_of_its_own_and_both_stand_in_the_report(folder):
    selection = Circuit.load(folder / "circuits" / "base.json").provenance.selection
    choice = selection.choice
    assert choice.n == 4 and choice.split == "validation"
    assert [one.ranking for one in choice.trials] == ["absolute", "signed", "mixed"]
    assert selection.ranking == choice.ranking
    scored = PairSet.load(folder / "pairs" / "score.jsonl")
    assert choice.fingerprint != scored.fingerprint
    assert open_run(folder).evaluation.last.circuit.choice == choice
    page = (folder / "report.html").read_text()
    assert "The ranking was chosen on 4 other pairs" in page and choice.reason in page


def test_patching_is_that_of_the_verb(folder):
    kept = Patching.load(folder / "patching.json")
    pairs = PairSet.load(folder / "pairs" / "evaluate.jsonl")[:2]
    fresh = patch(HookedModel.from_pretrained("newsroom-gpt2", device="cpu"), pairs)
    assert kept.values.keys() == fresh.values.keys()
    (metric,) = fresh.metrics
    assert float(fresh.values[metric].nan_to_num().abs().max()) > 0.1
    assert kept.values[metric].allclose(fresh.values[metric], atol=1e-5, equal_nan=True)


def test_the_page_shows_what_was_asked_and_complains_of_nothing_else(folder):
    page = (folder / "report.html").read_text()
    assert "Activation patching" in page and "Can the model do the task?" in page
    for absent in (
        "What fine-tuning changed",
        "Where a LoRA should go",
        "is not in the run folder",
    ):
        assert absent not in page


def test_a_model_out_of_its_depth_is_stopped_before_it_is_scored(tmp_path):
    recipe = load_recipe("quickstart", [*ONE_MODEL, "attribution.require_accuracy=1.0"])
    with pytest.raises(CircuitsError, match="below the required 1"):
        run(recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "scores").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune=null"], "`lora` needs `finetune` or `checkpoints`"),
        (
            [*ONE_MODEL, "patching.site=soul"],
            "patching: unknown site 'soul'; known: resid, resid_pre",
        ),
        (
            [*ONE_MODEL, "patching.direction=up"],
            "patching: unknown direction 'up'; known: denoise, noise",
        ),
        (
            [*ONE_MODEL, "patching.align=middle"],
            "patching: unknown align 'middle'; known: start, end",
        ),
        ([*ONE_MODEL, "patching.pairs=9"], r"patching\.pairs 9: there are 8"),
    ],
)
def test_impossible_recipes_are_refused(overrides, message, tmp_path):
    with pytest.raises(CircuitsError, match=message):
        run(load_recipe("quickstart", overrides), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["smollm2-ioi", "gemma3-ioi"])
def test_shipped_recipes_of_one_model_are_about_indirect_objects(name):
    recipe = load_recipe(name)
    assert recipe.single and recipe.task.name == "ioi" and recipe.patching is not None
