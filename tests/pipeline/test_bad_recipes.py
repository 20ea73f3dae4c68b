"""Recipes that cannot be run are refused before anything is written."""

import pytest

from circuits.errors import CircuitsError
from circuits.pipeline import load_recipe, run, shipped
from circuits.pipeline.settings import check


def test_data_is_the_file_that_the_task_reads():
    recipe = load_recipe("smollm2-samsum", ["data=dialogues.jsonl"])
    assert recipe.task_options == {**recipe.task.options, "path": "dialogues.jsonl"}
    with pytest.raises(CircuitsError, match="of a recipe --set data=FILE"):
        check(load_recipe("smollm2-samsum"))
    with pytest.raises(CircuitsError, match=r"`task\.options\.path` names a file too"):
        load_recipe("smollm2-samsum", ["data=a.jsonl", "task.options.path=b.jsonl"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetune.steps=0"], r"recipe quickstart: finetune: steps 0: it must be at least 1"),
        (["circuit.colour=red"], r"circuit\.colour: no such key; known: strategy"),
        (["checkpoints=there"], "give `finetune` or `checkpoints`, not both"),
        (["seed"], "write key=value"),
        (["task.name=poetry"], "unknown task 'poetry'"),
        (["task.options.corruption=typo"], "typo"),
        (["attribution.method=guess"], "unknown method 'guess'"),
        (["circuit.strategy=luck"], "circuit: unknown strategy 'luck'; known: top-n, widest-path"),
        (["evaluation.perturbations=[noise]"], "unknown perturbations 'noise'; known: typos"),
        (["evaluation.variants={odd: {corruption: odd}}"], "unknown corruption 'odd'"),
        (["evaluation.variants={evaluate: {}}"], r"evaluation\.variants 'evaluate': a pair set"),
        (["evaluation.variants={other-examples: {}}"], "'other-examples': a pair set"),
        (["evaluation.variants={swap: {}}"], "variants 'swap': .* there already; choose another"),
        (["evaluation.variants={typos: {}}"], "perturbations 'typos': .* there already; name it"),
        (["evaluation.variants={a/b: {}}"], "'a/b': a name of letters"),
        (["evaluation.corruptions=[swap, swap]"], "corruptions 'swap': .* there already"),
        (["circuit.ranking=sideways"], "circuit: unknown ranking 'sideways'; known: absolute"),
        (["circuit.ranking=mixed"], 'circuit: .* "mixed" takes a positive_ratio='),
        (
            ["circuit.positive_ratio=0.5"],
            "circuit: ranking 'absolute', positive_ratio=0.5: ranking",
        ),
        (["attribution.metric=luck"], r"attribution\.metric 'luck': known are logit-difference"),
        (
            ["attribution.metric=probability-difference", "task.options.corruption=filler"],
            "needs wrong answers, .* use answer-log-probability",
        ),
        (["attribution.metric=accuracy"], r"attribution\.metric 'accuracy': it has no gradient"),
        (["lora.steps=abc"], r"lora\.steps 'abc': it must be a whole number$"),
        (["attribution.steps=x"], r"\.steps 'x': it must be a whole number, or one of 'auto'$"),
        (["comparison.sizes=0.1"], r"comparison\.sizes 0\.1: it must be a list$"),
        (["evaluation.quality=yes"], r"evaluation\.quality True: write its keys below it$"),
        (["attribution.batch_size=0"], "attribution: batch_size 0: it must be at least 1"),
        (["pairs.score=7"], r"pairs\.score 7: comparing checkpoints takes at least 8"),
        (
            ["evaluation.minimality.n_pairs=-5"],
            r"evaluation\.minimality: n_pairs -5: it must be at least 1",
        ),
        (
            ["comparison.sizes=[0.1, 2]"],
            r"comparison: sizes 2\.0: it must be above 0 and at most 1",
        ),
        (["model_diff.documents=1"], "model_diff: documents 1: it must be at least 2"),
        (["lora.layers=5"], r"lora\.layers 5: newsroom-gpt2 has 4"),
        (["lora.seeds=[]"], r"lora\.seeds: .*at least 1"),
        (["lora.circuits=4"], r"lora\.circuits 4: there are 3 seeds"),
        (["lora.seeds=[0,0]"], r"lora\.seeds \[0, 0\]: no two alike"),
        (["lora.seeds=[-1]"], r"lora\.seeds: seed -1"),
        (["dtype=float31"], "unknown dtype 'float31'"),
        (["device=abacus"], "unknown device 'abacus'"),
        (["model=./nowhere"], "no such model folder"),
        (["finetune=null", "checkpoints=./nowhere"], "nowhere: no such folder of checkpoints"),
        (["finetune.warmup_steps=999"], "warmup_steps 999"),
        (
            ["lora.conditions=[taste]"],
            "lora: unknown conditions 'taste'; known: circuit, modules, heads, attention-kl",
        ),
        (["model_diff=null"], r"`lora\.conditions` 'attention-kl' needs `model_diff`"),
        (["name=a b"], "without spaces"),
    ],
)
def test_bad_recipes_are_refused_before_anything_is_written(overrides, message, tmp_path):
    with pytest.raises(CircuitsError, match=message):
        run(load_recipe("quickstart", overrides), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_an_encoder_decoder_is_not_to_be_trained(model_folder, tmp_path):
    recipe = load_recipe("quickstart", [f"model={model_folder('t5')}", "lora=null"])
    with pytest.raises(CircuitsError, match="only causal models are trained; give `checkpoints`"):
        run(recipe, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_unknown_and_broken_recipes(tmp_path):
    assert {"gpt2-cnn-dailymail", "quickstart", "smollm2-ioi"} <= set(shipped())
    with pytest.raises(
        CircuitsError, match="no such recipe; give a file, or one of: gemma3-ioi, gpt2-cnn"
    ):
        load_recipe("slowstart")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(CircuitsError, match=r"broken\.yaml: not YAML"):
        load_recipe(broken)
    broken.write_text("- a list")
    with pytest.raises(CircuitsError, match="not a recipe"):
        load_recipe(broken)
