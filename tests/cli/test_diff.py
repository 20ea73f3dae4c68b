"""`circuits diff`, from its words to what it prints and leaves."""

import json
import re
from itertools import chain

import pytest
import torch
import transformers
from cli.inside import circuits

from circuits.model_diff import ModelDiffs
from circuits.models import load_model


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Eight rows of two sentences each."""
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    words = ["Mary", "John", "Paris", "Rome"]
    rows = ["clean,corrupted,correct,incorrect"]
    rows += [
        f"The book is at home. {one} gave a book to,The book is at home. {two} gave a book to,"
        f" {one}, {two}"
        for one in words
        for two in words
        if one != two
    ]
    path.write_text("\n".join(rows[:9]))
    return path


@pytest.fixture(scope="module")
def edited(model_folder, tmp_path_factory):
    """A copy of the tiny Llama with head 2 of layer 1 edited by hand."""
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        model.model.layers[1].self_attn.q_proj.weight[16:24] = 0.5 * torch.randn(
            8, 32, generator=draw
        )
    folder = tmp_path_factory.mktemp("edited") / "step-7"
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def lora(model_folder, tmp_path_factory):
    """An adapter on the tiny Llama that does something."""
    from circuits.tuning.targets import lora_config, wrap

    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    adapted = wrap(base, lora_config([1, 2], base, rank=2))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("lora") / "lora"
    adapted.save_pretrained(folder)
    return folder


def common(table, out):
    return ("--task", "table", "--data", table, "--out", out, "--device", "cpu", "--quiet")


def test_a_finetuned_model_and_a_lora_in_all_pairs(edited, lora, model_folder, table, tmp_path):
    base = model_folder("llama")
    done = circuits(
        *("diff", "--model", edited, "--lora", lora, "--base", base),
        *("--n-resamples", 200, *common(table, tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    diffs = ModelDiffs.load(tmp_path / "model_diff.json")
    couples = [(diff.model, diff.base) for diff in diffs.comparisons]
    assert couples == [("step-7", "llama"), ("lora", "llama"), ("lora", "step-7")]
    assert diffs.models == {"llama": str(base), "step-7": str(edited), "lora": str(lora)}
    first = diffs.comparisons[0]
    assert first.heads_by_kl[0][0] == "a1.h2" and first.n_documents == 8
    assert "moved most at a1.h2" in done.stdout
    assert re.search(r"KL \d+\.\d+ \[\d\.\d+, \d\.\d+\] nats", done.stdout)
    assert first.head_type("sentence-initial").n == first.head_type("answer").n == 8
    assert len(first.neurons.top) == 50
    assert diffs.trajectory.checkpoints == ("llama", "step-7")
    assert diffs.trajectory.steps == (0, 7)
    page = (tmp_path / "model_diff.html").read_text(encoding="utf-8")
    assert "<script src" not in page and "step-7 against llama" in page
    plots = json.loads(re.search(r'id="plots">(.*?)</script>', page, re.S)[1])
    lines = [trace for trace in plots["figure-1"][""]["data"] if trace.get("name")]
    assert [line["name"] for line in lines] == [
        "step-7 against llama",
        "lora against llama",
        "lora against step-7",
    ]
    assert lines[0]["y"][0] == 0.0 and max(lines[0]["y"]) == lines[0]["y"][1]
    kinds = {
        trace["type"] for views in plots.values() for v in views.values() for trace in v["data"]
    }
    assert {"heatmap", "scatter", "scatter3d"} <= kinds


def test_a_model_against_itself_has_not_changed(model_folder, table, tmp_path):
    base = model_folder("llama")
    done = circuits(
        *("diff", "--model", base, "--base", base, *common(table, tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    assert "no change in attention, hidden states or neurons" in done.stdout
    (only,) = ModelDiffs.load(tmp_path / "model_diff.json").comparisons
    assert only.identical and only.neurons.n_changed == 0


def test_edge_scores_are_a_fourth_criterion(edited, model_folder, table, tmp_path):
    files = {}
    for option, model in (("--scores", edited), ("--base-scores", model_folder("llama"))):
        files[option] = tmp_path / option
        done = circuits(
            *("discover", "--model", model, "--method", "eap", "--per-example"),
            *common(table, files[option]),
        )
        assert done.returncode == 0, done.stderr
    out = tmp_path / "model_diff"
    done = circuits(
        *("diff", "--model", edited, "--base", model_folder("llama"), *chain(*files.items())),
        *("--n-resamples", 100, *common(table, out)),
    )
    assert done.returncode == 0, done.stderr
    critical = ModelDiffs.load(out / "model_diff.json").comparisons[0].critical_layers
    names = [changes.criterion for changes in critical.criteria]
    assert names == ["attention-kl", "entropy", "hidden-state", "edges"]
    assert float(critical.by("edges").values.value.max()) > 0 and len(critical.agreement) == 6
    done = circuits(
        *("diff", "--model", edited, "--base", model_folder("llama")),
        *("--scores", files["--base-scores"], "--base-scores", files["--scores"]),
        *("--n-resamples", 100),
        *common(table, tmp_path / "swapped"),
    )
    assert done.returncode == 2 and not (tmp_path / "swapped").exists()
    assert (
        f"{files['--scores']}: these scores were made from {edited}, and are used with"
        in done.stderr
    )


def test_refusals_are_one_line(edited, model_folder, table, tmp_path):
    base = model_folder("llama")
    cases = {
        ("--model", model_folder("gpt2"), "--base", base): "different shapes: 3 layers",
        ("--model", edited, "--base", base, "--scores", tmp_path): "--base-scores",
    }
    try:
        import umap  # noqa: F401
    except ImportError:
        cases["--model", edited, "--base", base, "--umap"] = "circuit-discovery[umap]"
    for arguments, message in cases.items():
        done = circuits("diff", *arguments, *common(table, tmp_path / "none"))
        assert done.returncode == 2 and message in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "none").exists()


def test_padding_of_the_vocabulary_is_no_other_shape(edited, model_folder, table, tmp_path):
    """What a model's attention and hidden states are does not depend on rows that no token has."""
    model, tokenizer = load_model(edited, device="cpu")
    model.resize_token_embeddings(448, mean_resizing=False)
    model.save_pretrained(tmp_path / "padded")
    tokenizer.save_pretrained(tmp_path / "padded")
    found = {}
    for name, place in (("same", edited), ("padded", tmp_path / "padded")):
        arguments = ("diff", "--model", place, "--base", model_folder("llama"))
        done = circuits(*arguments, "--n-resamples", 100, *common(table, tmp_path / name))
        assert done.returncode == 0, done.stderr
        found[name] = ModelDiffs.load(tmp_path / name / "model_diff.json").comparisons[0]
    critical, padded = (found[name].critical_layers for name in ("same", "padded"))
    assert critical.model_dump_json() == padded.model_dump_json()
    assert float(critical.by("attention-kl").values.value.max()) > 0
