"""`circuits search` on a file of pairs."""

import json
from itertools import combinations

import pytest
from cli.inside import circuits

from circuits.cli.search import _compared
from circuits.graph import Circuit
from circuits.search import HeadPruning, Search


def search(*arguments):
    return circuits("search", *arguments)


@pytest.fixture(scope="module")
def common(tmp_path_factory, model_folder, tokenizer):
    path = tmp_path_factory.mktemp("data") / "pairs.csv"
    words = ["Mary", "John", "Paris", "Rome"]
    rows = ["clean,corrupted,correct,incorrect"]
    rows += [
        f"and {word} gave a book to,and {other} gave a book to, {word}, {other}"
        for word, other in combinations(words, 2)
    ]
    path.write_text("\n".join(rows))
    return ("--model", model_folder("llama"), "--task", "table", "--data", path, "--device", "cpu")


def test_acdc_writes_its_trials_and_the_circuit(common, tmp_path, hooked):
    out = tmp_path / "out"
    done = search(*common, "--tau", 0.1, "--relative-to", "model", "--quiet", "--out", out)
    assert done.returncode == 0, done.stderr
    found, circuit = Search.load(out / "search.json"), Circuit.load(out / "circuit.json")
    layout = hooked("llama").layout
    assert 0 < len(circuit) < layout.n_edges and circuit.edges == found.circuit.edges
    assert found.config.relative_to == "model"
    assert found.cost.decisions + found.cost.untried == layout.n_edges
    assert f"{len(circuit)} of {layout.n_edges} edges stay" in done.stdout
    assert f"wrote {out / 'search.json'}" in done.stdout
    warned = done.stderr.splitlines()
    assert all(line.startswith("warning: does the model do the task?") for line in warned)

    before = (out / "search.json").read_bytes()
    again = search(*common, "--tau", 0.1, "--relative-to", "model", "--quiet", "--out", out)
    assert again.returncode == 0 and (out / "search.json").read_bytes() == before
    other = search(*common, "--tau", 0.2, "--quiet", "--out", out)
    assert other.returncode == 2 and "with other settings" in other.stderr
    assert "Traceback" not in other.stderr


def test_nodes_and_head_pruning(common, tmp_path):
    done = search(*common, "--tau", 0.3, "--level", "node", "--quiet", "--out", tmp_path / "nodes")
    assert done.returncode == 0, done.stderr
    steps = json.loads((tmp_path / "nodes" / "search.json").read_text())["history"]
    assert {step["name"] for step in steps} <= {
        *(f"a{layer}.h{head}" for layer in range(3) for head in range(4)),
        *(f"m{layer}" for layer in range(3)),
    }

    pruning = ("--method", "head-pruning", "--ablation", "mean", "--evaluate-split", "all")
    pruning += ("--evaluate-n", 2)
    done = search(*common, *pruning, "--max-drop", 0.3, "--quiet", "--out", tmp_path / "nodes")
    assert done.returncode == 0, done.stderr
    found = HeadPruning.load(tmp_path / "nodes" / "heads.json")
    assert Search.load(tmp_path / "nodes" / "search.json").circuit is not None, "both stay"
    assert f"{len(found.heads)} of 12 heads stay" in done.stdout
    assert found.ablation == "mean"
    assert found.evaluation.metrics["logit-difference"].drop.n == 2
    assert found.evaluation.searched_on == 2
    assert "warning: 2 of the 2 pairs were searched on; figures" in done.stderr
    assert "logit-difference on 2 pairs, 2 of them searched on: model" in done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--method", "annealing"), "known: acdc, head-pruning"),
        (("--tau", 0.1, "--evaluate-n", 2), "--evaluate-n is not an option of acdc"),
        (("--max-drop", 0.1), "--max-drop is not an option of acdc"),
        ((), "acdc needs --tau"),
        (("--tau", 0.1, "--ablation", "noise"), "unknown ablation 'noise'; known: corrupted, mean"),
        (
            ("--method", "head-pruning", "--max-drop", 0.1, "--ablation", "corrupted"),
            "unknown ablation 'corrupted'; known: zero, mean",
        ),
        (("--method", "head-pruning"), "head-pruning needs --max-drop"),
        (
            ("--method", "head-pruning", "--level", "node"),
            "--level is not an option of head-pruning",
        ),
        (("--tau", 0.1, "--order", "sideways"), "known: backward, forward, random"),
    ],
)
def test_what_does_not_fit_is_refused(given, message, common, tmp_path):
    done = search(*common, *given, "--out", tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("saving", "said"), [(2.0, "2.0 times fewer"), (0.5, "2.0 times more")])
def test_a_search_that_ran_more_does_not_say_fewer(saving, said):
    assert _compared(saving) == said
