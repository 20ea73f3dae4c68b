"""A model without a tokenizer says why, and takes another one's."""

import json
import shutil

import pytest
import transformers
from conftest import make_model, make_tokenizer
from tokenizers import Tokenizer, models, normalizers, trainers

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import load_tokenizer, tokenizer_of


def broken(folder):
    """As a copy that was stopped."""
    file = folder / "tokenizer.json"
    file.write_text(file.read_text()[:3000])
    return folder


@pytest.fixture
def place(model_folder, tmp_path):
    """name -> a copy of a tiny model's folder."""

    def make(name="llama"):
        return shutil.copytree(model_folder("llama"), tmp_path / name)

    return make


def no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    return folder


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (broken, "its tokenizer cannot be read .JSONDecodeError: .*char 3000"),
        (no_tokenizer, "the folder holds no tokenizer"),
        (
            lambda folder: (no_tokenizer(folder) / "tokenizer.model").write_bytes(b"junk"),
            "its tokenizer cannot be read .*tiktoken",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0"}'),
            "its tokenizer cannot be read .KeyError: 'added_tokens'",
        ),
    ],
)
def test_the_reason_is_said_where_a_tokenizer_is_asked_for(spoil, message, place):
    folder = place()
    spoil(folder)
    model, tokenizer = load_model(folder, device="cpu")  # ready token ids need none
    assert tokenizer is None and model.config.model_type == "llama"
    hooked = HookedModel.from_pretrained(folder, device="cpu")
    with pytest.raises(CircuitsError, match=f"{folder}: {message}.*; name another one with --tok"):
        _ = hooked.tokenizer
    with pytest.raises(CircuitsError, match=message) as refusal:
        load_tokenizer(folder)
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_of_bytes_needs_no_vocabulary(tmp_path):
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    for file in ("tokenizer.json", "added_tokens.json"):
        (tmp_path / file).unlink(missing_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    assert load_tokenizer(tmp_path)("ab")["input_ids"] == [ord("a") + 3, ord("b") + 3, 1]


def test_another_tokenizer_is_taken(place, model_folder):
    folder = no_tokenizer(place())
    found = HookedModel.from_pretrained(folder, tokenizer=model_folder("gpt2"), device="cpu")
    assert found.tokenizer("Mary")["input_ids"] == make_tokenizer()("Mary")["input_ids"]
    with pytest.raises(CircuitsError, match="the folder holds no tokenizer"):
        load_model(folder, tokenizer=folder, device="cpu")
    with pytest.raises(CircuitsError, match="/no/folder: no such model folder"):
        load_model(folder, tokenizer="/no/folder", device="cpu")


@pytest.fixture
def adapter(place, tmp_path):
    """A LoRA's folder on a base with a tokenizer."""
    from circuits.tuning.targets import lora_config, wrap

    base = place("base")
    model, _ = load_model(base, device="cpu")
    wrap(model, lora_config([0], model, rank=2)).save_pretrained(
        tmp_path / "adapter", save_embedding_layers=False
    )
    record = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert record["base_model_name_or_path"] == str(base)
    return tmp_path / "adapter"


def test_an_adapter_without_a_tokenizer_has_its_bases(adapter):
    expected = make_tokenizer()("Mary")["input_ids"]
    assert load_model(adapter, device="cpu")[1]("Mary")["input_ids"] == expected
    assert tokenizer_of(adapter)("Mary")["input_ids"] == expected


def test_an_adapters_own_broken_tokenizer_is_not_replaced_in_silence(adapter, place):
    make_tokenizer().save_pretrained(adapter)
    assert load_model(adapter, device="cpu")[1] is not None
    broken(adapter)
    model = HookedModel.from_pretrained(adapter, device="cpu")
    with pytest.raises(CircuitsError, match=f"{adapter}: its tokenizer cannot be read"):
        _ = model.tokenizer
    with pytest.raises(CircuitsError, match=f"{adapter}: its tokenizer cannot be read"):
        tokenizer_of(adapter)
    named = HookedModel.from_pretrained(adapter, tokenizer=place("other"), device="cpu")
    assert named.tokenizer("Mary")["input_ids"]


def test_what_a_result_says_of_another_tokenizer(place, model_folder):
    from circuits.provenance import describe_model

    other = str(model_folder("gpt2"))
    named = HookedModel.from_pretrained(place(), tokenizer=other, device="cpu")
    assert describe_model(named).tokenizer == other
    own = HookedModel(make_model("llama"), make_tokenizer(), "own")
    assert describe_model(own).tokenizer is None


def test_a_named_tokenizer_that_is_broken_is_no_bases_fault(adapter, place):
    bad = place("bad")
    broken(bad)
    with pytest.raises(CircuitsError, match=rf"^{bad}: its tokenizer cannot be read \(.*\)$"):
        load_model(adapter, tokenizer=bad, device="cpu")


def of_class(folder, declared, model):
    """Give a folder the rules of a tokenizer under the name of a class of transformers."""
    transformers.PreTrainedTokenizerFast(tokenizer_object=model).save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": declared, "bos_token": "<s>"}))
    return folder


def lower_case_bytes():
    model = Tokenizer.from_str(make_tokenizer().backend_tokenizer.to_str())
    model.normalizer = normalizers.Lowercase()
    return model


def nothing_before_the_first_word():
    """As Yi's: spaces are marked, and no text is given one at its beginning."""
    model = Tokenizer(models.BPE(byte_fallback=True))
    model.normalizer = normalizers.Replace(" ", "▁")
    words = ["Hello", "world", "Mary", "gave"]
    letters = [*"".join(words), "▁"]
    trainer = trainers.BpeTrainer(special_tokens=["<s>"], initial_alphabet=letters)
    model.train_from_iterator([f" {word}" for word in words], trainer)
    return model


@pytest.mark.parametrize(
    ("declared", "make", "text"),
    [
        ("GPT2Tokenizer", lower_case_bytes, "Paris and Rome"),
        ("LlamaTokenizer", nothing_before_the_first_word, "Mary gave"),
    ],
)
def test_texts_are_cut_as_the_file_says(declared, make, text, place, caplog):
    """Not as the class that is named: transformers 5 builds it again without the file's rules."""
    folder = of_class(place(), declared, make())
    expected = make().encode(text).ids
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__ == declared and theirs(text)["input_ids"] != expected
    assert load_tokenizer(folder)(text)["input_ids"] == expected
    (line,) = caplog.messages
    assert f"reads its tokenizer as {declared}, which cuts 'Hello world' into" in line


def test_a_class_that_cuts_as_the_file_says_is_kept(place, caplog):
    same = Tokenizer.from_str(make_tokenizer().backend_tokenizer.to_str())
    folder = of_class(place(), "GPT2Tokenizer", same)
    assert type(load_tokenizer(folder)) is transformers.GPT2Tokenizer and not caplog.messages
