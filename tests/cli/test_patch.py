"""`circuits patch`: what it writes, says and refuses."""

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.errors import CircuitsError
from circuits.intervention.patching import Patching, PatchSpec, patch, path_patch
from tasks.pairs import PairSet, PromptPair


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three rows of one template."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    names = [("Mary", "John"), ("Paris", "Rome"), ("book", "Mary")]
    rows = [f"and {a} gave a book to,and {b} gave a book to, {a}, {b}" for a, b in names]
    path.write_text("\n".join(["clean,corrupted,correct,incorrect", *rows]))
    return path


def circuits(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run(table, model_folder, out, *arguments):
    return circuits(
        *("patch", "--model", model_folder("llama"), "--task", "table", "--data", table),
        *("--out", out, "--device", "cpu", "--quiet", *arguments),
    )


def plots(page):
    """The plots in a page, by metric."""
    embedded = re.search(r'id="plots">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    (views,) = json.loads(embedded[1]).values()
    return views


def pairs_of(table, tokenizer):
    """The rows of the file, by hand."""
    pairs = []
    for line in table.read_text().splitlines()[1:]:
        clean, corrupted, right, wrong = line.split(",")
        ids = [tuple(tokenizer(text)["input_ids"]) for text in (clean, corrupted, right, wrong)]
        pairs.append(PromptPair(ids[0], ids[1], (ids[2],), (ids[3],)))
    return PairSet(tuple(pairs), metric="logit-difference")


def test_a_sweep_is_written_drawn_and_summed_up(table, model_folder, hooked, tokenizer, tmp_path):
    done = run(
        *(table, model_folder, tmp_path, "--site", "resid", "--layers", "0-1", "--align", "end"),
        *("--metric", "logit-difference", "--metric", "rank: Mary"),
    )
    assert done.exit_code == 0, done.output
    found = Patching.load(tmp_path / "patching.json")
    assert (found.site, found.direction, found.n) == ("resid_pre", "denoise", 3)
    expected = patch(
        hooked("llama"),
        pairs_of(table, tokenizer),
        PatchSpec("resid_pre", layers=(0, 1), align="end"),
        metrics=["logit-difference", "rank: Mary"],
    )
    assert found.axes == expected.axes and found.axes[1].values[-1] == -1
    for metric in expected.metrics:
        here, there = found.values[metric], expected.values[metric]
        assert torch.allclose(here, there, atol=1e-5) and float(here.std()) > 1e-3
    assert found.provenance.seed == 0 and found.provenance.data.n == 3
    assert found.provenance.model.architecture == "LlamaForCausalLM"
    assert found.provenance.performance is not None and found.spec.layers == (0, 1)
    assert "logit-difference on 3 pairs: clean " in done.output
    assert found.top(1)[0][0] in done.output
    assert "Patching llama on table" in (tmp_path / "patching.html").read_text(encoding="utf-8")
    views = plots(tmp_path / "patching.html")
    assert list(views) == ["logit-difference", "rank: Mary"]
    for view in views.values():
        assert view["layout"]["xaxis"]["ticktext"][-4:] == ["gave", "a", "book", "to"]
        assert view["data"][0]["type"] == "heatmap" and len(view["data"][0]["z"]) == 2
    for file in ("patching.json", "patching.html"):
        assert f"wrote {tmp_path / file}" in done.output


def test_paths_are_patched_in_the_papers_direction(
    table, model_folder, hooked, tokenizer, tmp_path
):
    paths = ["a0.h1->a1.h2<q>", "m0->logits+m1->logits"]
    done = run(
        *(table, model_folder, tmp_path, "--path", paths[0], "--path", paths[1]),
        "--no-freeze-mlps",
    )
    assert done.exit_code == 0, done.output
    found = Patching.load(tmp_path / "patching.json")
    expected = path_patch(hooked("llama"), pairs_of(table, tokenizer), paths, freeze_mlps=False)
    assert found.direction == "noise" and found.freeze_mlps is False and found.spec is None
    here, there = found.values["logit-difference"], expected.values["logit-difference"]
    assert torch.allclose(here, there, atol=1e-5) and float(here.std()) > 1e-3
    (view,) = plots(tmp_path / "patching.html").values()
    assert view["layout"]["yaxis"]["ticktext"][0] == "a0.h1-&gt;a1.h2&lt;q&gt;"


def test_a_gap_of_nothing_is_said_and_written(table, model_folder, tmp_path):
    """No prompt is answered rightly either way: accuracy is 0 on both sides."""
    done = run(table, model_folder, tmp_path, "--sweep", "layer", "--metric", "accuracy")
    assert done.exit_code == 0, done.output
    assert "recovery is not defined: accuracy is 0 on the clean prompts" in done.output
    record = json.loads((tmp_path / "patching.json").read_text())
    assert record["recoveries"] == {"accuracy": None}
    assert "recovery is not defined" in (tmp_path / "patching.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--site", "nowhere"], "unknown site 'nowhere'; known: resid, resid_pre"),
        (["--layers", "all"], "--layers 'all': write numbers and ranges, as in 0-3,7"),
        (["--layers", "2-4"], "no layer 3: layers go from 0 to 2 here"),
        (["--path", "m0->logits", "--sweep", "layer"], "--path takes no --site, --sweep, --layers"),
        (["--site", "z", "--neurons", "1"], "z has no neurons to choose from: it has heads"),
        (["--path", "m0->logits", "--site", "z"], "--path takes no --site"),
        (["--no-freeze-mlps"], "--freeze-mlps is about paths; name one with --path"),
        (["--path", "m9->logits"], "no source 'm9' in this model"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    arguments, message, table, model_folder, tmp_path
):
    done = run(table, model_folder, tmp_path / "out", *arguments)
    assert isinstance(done.exception, CircuitsError) and message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_help_shows_an_example():
    done = circuits("patch", "--help")
    assert done.exit_code == 0 and "Example: circuits patch" in done.output
