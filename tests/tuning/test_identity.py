"""Killed, changed and started again: every change is refused by its name, before any training."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from circuits.errors import CircuitsError
from circuits.importance import MapImportance, RoleImportance
from circuits.options.tuning import AdapterOptions, FinetuneSettings, LoraProtocol
from circuits.tuning.finetune import finetune
from circuits.tuning.heads import head_slices, train_heads_alone, trained_heads
from circuits.tuning.identity import fingerprint_model
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget
from circuits.tuning.targets import lora_config, wrap

SETTINGS = FinetuneSettings(
    steps=6,
    learning_rate=1e-2,
    warmup_steps=2,
    batch_size=4,
    save_state_every=2,
    validate_every=2,
)


@pytest.fixture
def steps(monkeypatch):
    """Steps of the optimizer, in one list; `steps.most` of them, then Ctrl-C."""

    class Taken(list):
        most = 999

    taken, step = Taken(), torch.optim.AdamW.step

    def counted(*given, **named):
        if len(taken) == taken.most:
            raise KeyboardInterrupt
        taken.append(step(*given, **named))

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return taken


@pytest.fixture(scope="module")
def other_tokenizer(model_folder, tmp_path_factory):
    """That of the tiny models with a word more."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(model_folder("gpt2"))
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(folder)
    return folder


# Fine-tuning


def made(folder, *, adapter, head, base, change):
    """A tiny GPT-2 with a LoRA on layer 1, of whose attention output one head trains."""
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **base)
    change(network)
    torch.manual_seed(0)
    layers = adapter.pop("layers", [1])
    alpha = adapter.pop("alpha", None)
    config = lora_config(layers, network, **{"rank": 2, "dropout": 0.1, **adapter})
    if alpha is not None:
        config.lora_alpha = alpha
    slices = head_slices(network)
    model = wrap(network, config)
    if head is not None:
        chosen = [one for one in slices if one.node in head]
        train_heads_alone(model, {chosen[0].map: chosen})
    return model


@pytest.fixture
def run(model_folder, make_examples, steps):
    def trained(out, *, settings=SETTINGS, data=None, base=None, adapter=None, **changes):
        given = make_examples(9)
        examples, validation = (data or (lambda rows: (rows, rows[:3])))(given)
        model = made(
            model_folder("gpt2"),
            adapter=dict(adapter or {}),
            head=changes.get("head", ("a1.h1<v>",)),
            base=base or {},
            change=changes.get("change", lambda network: None),
        )
        finetune(
            model,
            examples,
            out,
            settings=settings,
            validation=validation,
            tokenizer=changes.get("tokenizer"),
            progress=False,
        )
        return len(steps)

    return trained


def no_dropout(network):
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def moved(network):
    with torch.no_grad():
        network.transformer.h[0].ln_1.bias[0] += 1e-6


def buffered(network):
    network.transformer.register_buffer("scale", torch.ones(1))


SETTINGS_CASES = [
    ({"seed": 1}, "seed was 0, now 1"),
    ({"steps": 7}, "steps was 6, now 7"),
    ({"learning_rate": 2e-2}, "learning_rate was 0.01, now 0.02"),
    ({"warmup_steps": 1}, "warmup_steps was 2, now 1"),
    ({"batch_size": 3}, "batch_size was 4, now 3"),
    ({"accumulation": 2}, "accumulation was 1, now 2"),
    ({"gradient_checkpointing": True}, "gradient_checkpointing was False, now True"),
    ({"bf16": True}, "bf16 was False, now True"),
    ({"weight_decay": 0.1}, "weight_decay was 0.01, now 0.1"),
    ({"betas": (0.9, 0.99)}, r"betas was \[0.9, 0.98\], now \[0.9, 0.99\]"),
    ({"clip": None}, "clip was 1.0, now None"),
    ({"validate_every": 3}, "validate_every was 2, now 3"),
    ({"checkpoint_steps": (5,)}, r"checkpoint_steps was \[\], now \[5\]"),
    ({"patience": 3}, "patience was None, now 3"),
]
OTHER_CASES = [
    ({"data": lambda rows: (rows[:8], rows[:3])}, "examples was"),
    ({"data": lambda rows: (rows[::-1], rows[:3])}, "examples was"),
    ({"data": lambda rows: (rows, rows[:2])}, "validation was"),
    ({"data": lambda rows: (rows, None)}, "validation was .*, now None"),
    ({"base": {"resid_pdrop": 0.2}}, "config: resid_pdrop was 0.1, now 0.2"),
    ({"base": {"scale_attn_weights": False}}, "config: scale_attn_weights was True, now False"),
    ({"change": no_dropout}, r"dropouts: \S*drop\S* was 0.1, now None"),
    ({"change": moved}, r"\(model was \w{8}\.\.\., now \w{8}\.\.\.\)"),
    ({"change": buffered}, r"\(model was"),
    ({"adapter": {"alpha": 5}}, r"\(adapter: default.lora_alpha was 4, now 5\)"),
    ({"adapter": {"dropout": 0.2}}, "adapter: default.lora_dropout was 0.1, now 0.2"),
    ({"adapter": {"rslora": True}}, "default.use_rslora was False, now True"),
    ({"adapter": {"dora": True}, "head": None}, "default.use_dora was False, now True"),
    ({"adapter": {"rank": 3}}, "ranks: .* was 2, now 3"),
    ({"adapter": {"layers": [0, 1]}}, r"ranks: transformer.h.0.\S* was None, now 2"),
    ({"head": ("a1.h2<v>",)}, r"\(heads: \S*c_attn was \['a1.h1<v>'\], now \['a1.h2<v>'\]\)"),
    ({"head": ("a1.h1<v>", "a1.h2<v>")}, r"\(heads: .* now \['a1.h1<v>', 'a1.h2<v>'\]\)"),
    ({"head": None}, r"\(heads: \S*c_attn was \['a1.h1<v>'\], now None\)"),
]


def test_a_killed_training_refuses_whatever_is_changed(run, steps, tmp_path, other_tokenizer):
    steps.most = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert (tmp_path / "state-2").is_dir()
    steps.clear()
    steps.most = 999
    tokenizer = AutoTokenizer.from_pretrained(other_tokenizer)
    cases = [
        *(({"settings": replace(SETTINGS, **change)}, said) for change, said in SETTINGS_CASES),
        *OTHER_CASES,
        ({"tokenizer": tokenizer}, r"\(tokenizer was None, now \w{8}"),
    ]
    for change, said in cases:
        with pytest.raises(CircuitsError, match=rf"{tmp_path}: holds another run .*{said}"):
            run(tmp_path, **change)
    assert not steps, "refused before any step"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    same = replace(SETTINGS, save_state_every=5, log_to=("csv",))
    assert run(tmp_path, settings=same) == 4, "what changes nothing goes on after step 2"


def test_a_value_that_one_version_of_a_library_does_not_know_is_no_change(run, steps, tmp_path):
    steps.most = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    steps.clear()
    steps.most = 999
    file = tmp_path / "run.json"
    recorded = json.loads(file.read_text())
    for of_library, name in (("config", "resid_pdrop"), ("adapter", "default.lora_alpha")):
        del recorded[of_library][name]
        recorded[of_library]["of.another.version"] = 1
    file.write_text(json.dumps(recorded))
    assert run(tmp_path) == 4, "goes on after step 2"


def test_heads_are_known_by_the_adapter_that_was_restricted(model_folder):
    arguments = {"adapter": {}, "base": {}, "change": lambda network: None}
    model = made(model_folder("gpt2"), head=("a1.h0<q>", "a1.h1<v>"), **arguments)
    attention = "transformer.h.1.attn.c_attn"
    assert trained_heads(model) == {attention: ("a1.h0<q>", "a1.h1<v>")}
    assert not trained_heads(made(model_folder("gpt2"), head=None, **arguments))


def test_a_model_is_known_by_what_a_checkpoint_holds(model_folder):
    network = AutoModelForCausalLM.from_pretrained(model_folder("llama"), dtype=torch.float32)
    before = fingerprint_model(network)
    rotary = network.model.rotary_emb
    rotary.inv_freq *= 2  # follows from the configuration, and is in no checkpoint
    assert fingerprint_model(network) == before
    network.lm_head.weight.requires_grad_(False)
    assert fingerprint_model(network) != before


# Comparisons of LoRAs

IMPORTANT = MapImportance(
    "edges",
    3,
    (
        RoleImportance(0, "q", (1.0, 2.0, 0.0, 0.0)),
        RoleImportance(0, "attention-output", (0.0, 0.0, 4.0, 0.0)),
        RoleImportance(2, "mlp-in", (5.0,)),
    ),
)


OTHER_MLP = replace(IMPORTANT, roles=(*IMPORTANT.roles[:2], RoleImportance(1, "mlp-in", (5.0,))))


def with_queries(*values):
    """`IMPORTANT` with other heads' queries."""
    return replace(IMPORTANT, roles=(RoleImportance(0, "q", values), *IMPORTANT.roles[1:]))


def by_head(maps=IMPORTANT, **own):
    return LoraTarget("heads", maps=maps, by_head=True, **own)


def layer(number=1, **own):
    return LoraTarget("layer", (number,), **{"learning_rate": 1e-3, **own})


TRAINING = replace(SETTINGS, steps=4)
PROTOCOL = LoraProtocol(
    training=TRAINING, seeds=(0,), rank=2, learning_rates=(1e-3, 1e-2), tuning_steps=2
)


TARGETS = (by_head(), layer())


@pytest.fixture
def compare(model_folder, make_examples, steps):
    def compared(out, targets=TARGETS, protocol=PROTOCOL, data=None, folder=None):
        examples = ComparedExamples(
            make_examples(8, end=0), make_examples(4, seed=1, end=0), make_examples(3, seed=2)
        )
        compare_lora_targets(
            folder or model_folder("gpt2"),
            examples if data is None else data(examples),
            targets,
            protocol,
            out,
        )
        return len(steps)

    return compared


def trained_otherwise(**changes):
    return {"protocol": replace(PROTOCOL, training=replace(TRAINING, **changes))}


ARM_CASES = [
    (
        {"targets": (by_head(with_queries(0.0, 2.0, 1.0, 0.0)), layer())},
        r"heads/\S*: .*\(heads: transformer.h.0.attn.c_attn was \['a0.h0<q>', 'a0.h1<q>'\], "
        r"now \['a0.h1<q>', 'a0.h2<q>'\]\)",
    ),
    ({"targets": (by_head(OTHER_MLP), layer())}, r"heads/\S*: .*\(ranks: "),
    ({"targets": (by_head(batch_size=3), layer())}, r"heads/\S*: .*\(batch_size was 4, now 3\)"),
    ({"targets": (layer(), LoraTarget("heads", full=True))}, r"heads/\S*: .*\(heads: .*ranks: "),
    ({"protocol": replace(PROTOCOL, tuning_steps=3)}, r"heads/rate-\S*: .*steps was 2, now 3"),
    ({"protocol": replace(PROTOCOL, seeds=(1,))}, r"heads/rate-\S*: .*seed was 1, now 0"),
]
RUN_CASES = [
    ({"targets": (by_head(), layer(2))}, r"layer/seed-0: .*ranks: transformer.h.1"),
    ({"targets": (by_head(), layer(rank=3))}, r"layer/seed-0: .*ranks: "),
    ({"targets": (by_head(), layer(parts=("mlp",)))}, r"layer/seed-0: .*ranks: .*attn"),
    ({"targets": (by_head(), layer(batch_size=2))}, r"layer/seed-0: .*batch_size was 4, now 2"),
    (
        {"targets": (by_head(), layer(learning_rate=2e-3))},
        r"layer/seed-0: .*learning_rate was 0.001, now 0.002",
    ),
    (trained_otherwise(validate_every=1), r"heads/seed-0: .*\(validate_every was 2, now 1\)"),
    (trained_otherwise(checkpoint_steps=(3,)), r"heads/seed-0: .*\(checkpoint_steps was"),
]
SHARED_CASES = [
    (trained_otherwise(steps=5), "steps was 4, now 5"),
    (trained_otherwise(batch_size=2), "batch_size was 4, now 2"),
    (trained_otherwise(accumulation=2), "accumulation was 1, now 2"),
    (trained_otherwise(bf16=True), "bf16 was False, now True"),
    (trained_otherwise(gradient_checkpointing=True), "gradient_checkpointing was"),
    (trained_otherwise(clip=None), "clip was"),
    ({"protocol": replace(PROTOCOL, rank=3)}, "rank was 2, now 3"),
    ({"protocol": replace(PROTOCOL, parts=("mlp", "q", "k", "v"))}, "parts was"),
    ({"protocol": replace(PROTOCOL, adapter=AdapterOptions(rslora=True))}, "rslora was False"),
    ({"protocol": replace(PROTOCOL, adapter=AdapterOptions(dropout=0.1))}, "dropout was 0.0"),
    ({"protocol": replace(PROTOCOL, max_new_tokens=3)}, "max_new_tokens was None, now 3"),
    ({"protocol": replace(PROTOCOL, words="unicode")}, "words was auto, now unicode"),
    ({"data": lambda data: replace(data, train=data.train[::-1])}, "examples was"),
    ({"data": lambda data: replace(data, held_out=data.held_out[:3])}, "held_out was"),
    ({"data": lambda data: replace(data, validation=data.validation[:2])}, "validation was"),
]
DORA = {
    "protocol": replace(PROTOCOL, adapter=AdapterOptions(dora=True)),
    "targets": (layer(),),
}


def refused(compare, out, cases, steps):
    """Every case is refused with what it says, and nothing is trained."""
    steps.clear()
    steps.most = 999
    for change, said in cases:
        try:
            compare(out, **change)
        except CircuitsError as error:
            assert re.search(said, str(error)), f"{error}: not {said}"
        else:
            pytest.fail(f"went on where it should say {said}")
    assert not steps, "refused before any step"


def test_a_killed_comparison_refuses_whatever_is_changed(
    compare, steps, tmp_path, model_folder, other_tokenizer
):
    """Killed in its last run, with all trials and a run done."""
    steps.most = 2 * 2 + 4 + 3
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path)
    assert (tmp_path / "heads" / "seed-0" / "result.json").exists()
    assert (tmp_path / "layer" / "seed-0" / "state-2").is_dir()
    other_words = {"protocol": replace(PROTOCOL, tokenizer=str(other_tokenizer))}
    other_model = tmp_path / "model"
    network = AutoModelForCausalLM.from_pretrained(model_folder("gpt2"), resid_pdrop=0.3)
    network.save_pretrained(other_model)
    AutoTokenizer.from_pretrained(model_folder("gpt2")).save_pretrained(other_model)
    cases = [
        *((change, f"{tmp_path}/{said}") for change, said in (*ARM_CASES, *RUN_CASES)),
        *((change, rf"{tmp_path}: .*{said}") for change, said in SHARED_CASES),
        (DORA, r"\(dora was False, now True\)"),
        (other_words, r"\(tokenizer was"),
        ({"folder": other_model}, r"\(config: resid_pdrop was 0.1, now 0.3"),
    ]
    refused(compare, tmp_path, cases, steps)
    assert compare(tmp_path) == 2, "the last run goes on after step 2"


def test_killed_trials_refuse_other_ranks_and_heads(compare, steps, tmp_path):
    """One trial is done, and one is killed; no run was begun."""
    targets = (layer(), by_head())  # refused though another condition would be trained first
    steps.most = 2 + 1
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, targets)
    cases = [(change, f"{tmp_path}/{said}") for change, said in ARM_CASES]
    refused(compare, tmp_path, cases, steps)
    assert compare(tmp_path, targets) == 2 + 4 + 4


def test_a_head_of_a_killed_run_is_refused_before_other_runs(compare, steps, tmp_path):
    """Its ranks are those of before: nothing else than the names of its heads tells."""
    untuned = replace(PROTOCOL, learning_rates=())
    steps.most = 3
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, (by_head(),), untuned)
    moved_on = by_head(with_queries(0.0, 2.0, 1.0, 0.0))
    refused(
        compare,
        tmp_path,
        [({"targets": (layer(), moved_on), "protocol": untuned}, r"heads/seed-0: .*\(heads: ")],
        steps,
    )
    assert not (tmp_path / "layer").exists()


def test_a_result_that_nothing_tells_the_make_of_is_refused(compare, steps, tmp_path):
    compare(tmp_path, (layer(),))
    (tmp_path / "layer" / "seed-0" / "run.json").unlink()
    refused(compare, tmp_path, [({"targets": (layer(),)}, "a result but no run.json")], steps)


def test_a_comparison_of_an_earlier_version_is_told_apart(compare, steps, tmp_path):
    """It said less of itself: that is no change of settings."""
    compare(tmp_path, (layer(),))
    unsaid = {"adapter", "config", "dropouts", "heads", "ranks", "tokenizer"}
    for folder in (tmp_path / "layer" / "seed-0", tmp_path):
        file = folder / "run.json"
        recorded = json.loads(file.read_text())
        file.write_text(json.dumps({name: recorded[name] for name in recorded.keys() - unsaid}))
    said = "an earlier version of this package began this run, .* with which "
    case = {"targets": (layer(),)}
    refused(
        compare, tmp_path, [(case, f"{tmp_path}: {said}adapter, config, dropouts and 3")], steps
    )
    (tmp_path / "run.json").unlink()
    refused(compare, tmp_path, [(case, f"{tmp_path}/layer/seed-0: {said}heads, ranks;")], steps)
