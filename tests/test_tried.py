"""Situations that users of peft, transformers, datasets and their like meet (docs/tried.md)."""

import json
import shutil
import warnings

import datasets
import pandas
import peft
import pytest
import torch
import transformers
from cli.inside import circuits
from cli.test_cli import refused
from conftest import _GPT2, make_model, make_tokenizer, randomised
from safetensors.torch import load_file, save_file

import tasks
from circuits.attribution import attribute
from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import checkpoint_series, load_config, tokenizer_of

TOKENS = torch.tensor([[5, 6, 7, 10, 11]])
ROW = {
    "clean": "Mary gave John",
    "corrupted": "John gave Mary",
    "correct": " a",
    "incorrect": " at",
}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.fixture
def place(model_folder, tmp_path):
    """A Llama's folder of the test's own."""
    return shutil.copytree(model_folder("llama"), tmp_path / "model")


def logits(source, **settings):
    model, _ = load_model(source, device="cpu", **settings)
    return model(input_ids=TOKENS).logits


def assert_is_llama(found):
    assert found.std() > 0.1
    torch.testing.assert_close(found, make_model("llama")(input_ids=TOKENS).logits)


def pairs(path, tokenizer, **settings):
    return tasks.load("table", path=str(path)).pairs(tokenizer, **settings)


@pytest.fixture
def wanted(tmp_path, tokenizer):
    """What ROW gives where it is read rightly."""
    (tmp_path / "wanted.json").write_text(json.dumps([ROW]))
    (pair,) = pairs(tmp_path / "wanted.json", tokenizer)
    assert pair.answer != pair.wrong
    return pair.clean, pair.corrupted, pair.answer, pair.wrong


def same(found, wanted):
    return all((one.clean, one.corrupted, one.answer, one.wrong) == wanted for one in found)


# Checkpoints


def test_weights_in_many_files_and_one_of_them_lost(tmp_path):
    make_model("llama").save_pretrained(tmp_path, max_shard_size="40KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    assert_is_llama(logits(tmp_path))
    shards[1].unlink()
    with pytest.raises(CircuitsError, match=f"cannot be loaded .*{shards[1].name}"):
        load_model(tmp_path)


def as_pickle(place, prefix=""):
    weights = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    torch.save(
        {prefix + name: value for name, value in weights.items()}, place / "pytorch_model.bin"
    )


def test_weights_as_pytorch_model_bin_alone(place):
    as_pickle(place)
    assert_is_llama(logits(place))


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
@pytest.mark.parametrize("pickled", [True, False])
def test_a_checkpoint_of_a_wrapped_model(prefix, pickled, place):
    if pickled:
        as_pickle(place, prefix)
    else:
        weights = load_file(place / "model.safetensors")
        named = {prefix + name: value for name, value in weights.items()}
        save_file(named, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CircuitsError, match=f"begin with '{prefix}', so it was saved from a wrapped"
    ):
        load_model(place)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "pytorch_model.bin"])
def test_a_clone_without_its_large_files(name, place):
    (place / "model.safetensors").unlink()
    (place / name).write_text(POINTER)
    with pytest.raises(CircuitsError, match=f"{name} is a Git LFS pointer.*git lfs pull"):
        load_model(place)


def test_a_clone_without_its_tokenizer_or_data(place, tokenizer, tmp_path):
    (place / "tokenizer.json").write_text(POINTER)
    with pytest.raises(CircuitsError, match=r"tokenizer.json is a Git LFS pointer"):
        tokenizer_of(place)
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        (tmp_path / name).write_text(POINTER)
        with pytest.raises(CircuitsError, match=f"{name} is a Git LFS pointer"):
            pairs(tmp_path / name, tokenizer)


def test_the_folders_of_a_trainer(place, tmp_path):
    output = tmp_path / "output"
    for step in (1000, 500):
        folder = shutil.copytree(place, output / f"checkpoint-{step}")
        (folder / "tokenizer.json").unlink()
        for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin"):
            (folder / name).write_bytes(b"{}")
    assert list(checkpoint_series(place, output)) == ["base", "checkpoint-500", "checkpoint-1000"]
    assert_is_llama(logits(output / "checkpoint-500"))
    with pytest.raises(
        CircuitsError, match=r"config.json; name one of its checkpoints, as .*-1000"
    ):
        load_model(output)


def test_a_link_to_a_folder(place, tmp_path):
    (tmp_path / "link").symlink_to(place)
    assert_is_llama(logits(tmp_path / "link"))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_checkpoint_of_half_precision_is_computed_in_float32(dtype, tmp_path):
    model = make_model("llama").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")  # as transformers 4 named it
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = logits(tmp_path)
    assert found.dtype == torch.float32
    weights = {name: value.float() for name, value in model.state_dict().items()}
    expected = make_model("llama")  # not model.float(), whose rotary angles were rounded too
    expected.load_state_dict(weights)
    torch.testing.assert_close(found, expected(input_ids=TOKENS).logits)


def configured(place, **change):
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **change}))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_configuration_that_asks_for_a_package_of_attention(key, place):
    configured(place, **{key: "flash_attention_2"})
    assert_is_llama(logits(place))


def test_a_configuration_as_training_leaves_it(place, hooked, random_pairs):
    configured(place, use_cache=False, output_attentions=True, output_hidden_states=True)
    found, expected = (
        attribute(model, random_pairs(), "eap-ig", steps=2).matrix
        for model in (HookedModel.from_pretrained(place, device="cpu"), hooked("llama"))
    )
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected)


def test_an_inner_size_of_its_own(tmp_path):
    model = randomised(transformers.GPT2Config(**_GPT2, n_inner=20))
    model.save_pretrained(tmp_path)
    hooked = HookedModel.from_pretrained(tmp_path, device="cpu")
    torch.testing.assert_close(hooked.hf(TOKENS).logits, model(TOKENS).logits)


def test_tokens_added_to_a_tied_model(tmp_path):
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    tokenizer.add_tokens([f" new{i}" for i in range(120)])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "t.json").write_text(json.dumps([{**ROW, "correct": " new119"}]))
    hooked = HookedModel.from_pretrained(tmp_path / "model", device="cpu")
    torch.testing.assert_close(hooked.hf(TOKENS).logits, model(TOKENS).logits)
    assert pairs(tmp_path / "t.json", hooked.tokenizer)[0].answer == ((len(tokenizer) - 1,),)


# Adapters


@pytest.mark.parametrize("kind", [{"use_dora": True}, {"use_rslora": True, "lora_alpha": 8}])
def test_kinds_of_lora(kind, place, tmp_path):
    torch.manual_seed(1)
    config = peft.LoraConfig(
        **kind, r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False
    )
    base, _ = load_model(place, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config).eval()
        model.save_pretrained(tmp_path / "adapter")
    expected = model(input_ids=TOKENS).logits
    assert (expected - logits(place)).abs().max() > 0.01
    torch.testing.assert_close(logits(tmp_path / "adapter"), expected, rtol=1e-4, atol=1e-4)


def test_the_base_of_an_adapter_is_gone(place, tmp_path):
    base, _ = load_model(place, device="cpu")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    moved = place.rename(tmp_path / "moved")
    why = r"no such model folder; named by base_model_name_or_path in .*adapter.adapter_config.json"
    for read in (load_model, load_config):
        with pytest.raises(CircuitsError, match=why):
            read(tmp_path / "adapter")
    assert_is_llama(logits(tmp_path / "adapter", base=moved))


# Tokenizers


def test_a_tokenizer_that_was_saved_while_it_cut_and_padded(tmp_path, wanted):
    tokenizer = make_tokenizer()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer.pad_token, tokenizer.model_max_length = None, 2
    tokenizer._tokenizer.enable_truncation(2)
    tokenizer._tokenizer.enable_padding(length=8)
    tokenizer.save_pretrained(tmp_path)
    assert '"max_length": 2' in (tmp_path / "tokenizer.json").read_text()
    assert same(pairs(tmp_path / "wanted.json", tokenizer_of(tmp_path)), wanted)


# Tables


@pytest.mark.parametrize("mark", [";", ",", "\t"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_from_a_spreadsheet(mark, suffix, tokenizer, tmp_path, wanted):
    lines = [mark.join(cells) for cells in (ROW, ROW.values())]
    path = tmp_path / f"t{suffix}"
    path.write_bytes("\r\n".join(["\ufeff" + lines[0], lines[1], ""]).encode())
    found = pairs(path, tokenizer)
    assert len(found) == 1
    assert same(found, wanted)


def test_another_encoding_is_named(tokenizer, tmp_path):
    (tmp_path / "t.csv").write_bytes(",".join(ROW).encode("utf-16"))
    with pytest.raises(CircuitsError, match=r"t.csv: not UTF-8"):
        pairs(tmp_path / "t.csv", tokenizer)


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.json"])
def test_gaps_are_no_answers(name, tokenizer, tmp_path):
    nan = float("nan")
    rows = [ROW, {**ROW, "correct": nan}]
    if name == "t.parquet":
        pandas.DataFrame(rows).to_parquet(tmp_path / name)
    elif name == "t.json":
        (tmp_path / name).write_text(json.dumps(rows))
    else:
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        CircuitsError, match=r"(row|line) 2: neither of 'correct' and 'correct_idx'"
    ):
        pairs(tmp_path / name, tokenizer)


def test_a_column_of_gaps_is_none(tokenizer, tmp_path):
    rows = [{**ROW, "incorrect": float("nan")}] * 2
    (tmp_path / "t.json").write_text(json.dumps(rows))
    assert {one.wrong for one in pairs(tmp_path / "t.json", tokenizer)} == {()}


def test_duplicated_rows_stay_in_one_split(tokenizer, tmp_path):
    rows = [
        {**ROW, "clean": f"Mary gave John {i % 40}", "corrupted": f"John gave Mary {i % 40}"}
        for i in range(120)
    ]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    parts = [
        [one.clean for one in pairs(tmp_path / "t.json", tokenizer, split=split)]
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, parts)) == 120
    assert sum(len(set(part)) for part in parts) == len({*parts[0], *parts[1], *parts[2]}) == 40


# Saved datasets


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_dataset_saved_to_disk_is_a_table(tokenizer, tmp_path, wanted):
    one = datasets.Dataset.from_list([ROW] * 3)
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=one, test=one.select([0])).save_to_disk(tmp_path / "two")
    for name, split, size in (("one", "all", 3), ("two", "all", 4), ("two", "test", 1)):
        found = pairs(tmp_path / name, tokenizer, split=split)
        assert len(found) == size
        assert same(found, wanted)
    assert found[0].source == "two, test row 1"
    files = tasks.load("table", path=str(tmp_path / "two")).files
    assert files
    assert all(file.is_file() for file in files)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("option", ["path", "dataset"])
def test_a_dataset_saved_to_disk_is_articles(option, tokenizer, tmp_path):
    rows = [{"article": f"Mary is at home {i}.", "summary": f"Mary is {i}."} for i in range(5)]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    task = tasks.load("summarization", **{option: str(tmp_path / "saved")})
    assert len(task.examples(tokenizer, split="all")) == 5


def test_a_damaged_saved_dataset_is_named(tokenizer, tmp_path):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "state.json").write_text("{")
    with pytest.raises(CircuitsError, match="saved: the saved dataset cannot be read"):
        pairs(tmp_path / "saved", tokenizer)


# The command line


def test_names_with_underscores_and_settings_that_there_are_not(model_folder, tmp_path):
    model = ["--model", model_folder("llama"), "--device", "cpu", "--out", tmp_path / "out"]
    table = [*model, "--task", "table", "--data", tmp_path / "t.json"]
    (tmp_path / "t.json").write_text(json.dumps([ROW] * 2))
    known = "unknown metric 'logit_difference'; known: logit-difference,"
    refused(circuits("discover", *table, "--metric", "logit_difference"), known)
    known = "unknown method 'eap_ig'; known: eap-ig,"
    refused(circuits("discover", *table, "--method", "eap_ig"), known)
    known = "unknown task 'greater_than'; the known tasks are: "
    refused(circuits("discover", *model, "--task", "greater_than"), known)
    run = ["run", "quickstart", "--out", tmp_path / "run", "--set"]
    refused(circuits(*run, "lora.stepz=3"), "recipe quickstart: lora.stepz: ")
    refused(circuits(*run, "lora.steps"), "--set 'lora.steps': write key=value")
    assert not (tmp_path / "run").exists()
