"""Tokenizers of GGUF files against slow ones, and against SentencePiece itself."""

import json
from functools import cache

import pytest
import torch
from conftest import make_model
from gguf_writer import write
from oracles.byte_pairs import PATTERNS, encode
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from circuits.errors import CircuitsError
from circuits.models import HookedModel, load_model
from circuits.models.checkpoints import load_tokenizer

TEXTS = [
    "The  capital of\n\nFrance is Paris; in 1999 it had 2125246 people.",
    "We'll see: they'VE gone, I'M not.\tTab and\r\nnewline 12 34  567\n 8",
    "camelCase HTTPServer naïve Straße 漢字 🤖 x²+y₁=½  ",
    "   leading, trailing   \n\n\n   42",
    "a",
    "",
]
CORPUS = [*TEXTS, "in 19 it had 21 people in the camelCase 567  of  is;  they gone \n\n 8 12"]
CONTROLS = ["<|endoftext|>", "<|im_start|>"]


@cache
def trained():
    """Tokens and merges learned across words, so that every rule of cutting makes a difference."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=396,
        special_tokens=CONTROLS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [*tokens, "<think>", "[PAD397]"], [tuple(pair) for pair in merges]


def byte_level(pre, **more):
    tokens, merges = trained()
    types = [3 if one in CONTROLS else 1 for one in tokens]
    types[-2:] = [4, 5]  # user-defined, unused
    values = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": types,
        "merges": [" ".join(pair) for pair in merges],
        "eos_token_id": 0,
        "bos_token_id": 1,
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


@pytest.fixture
def made(tmp_path):
    def make(values):
        return load_tokenizer(write(tmp_path / "m.gguf", make_model("llama"), tokenizer=values))

    return make


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_text_is_cut_as_the_named_rule_says(name, made):
    tokenizer = made(byte_level(name))
    tokens, merges = trained()
    whole_words = name in ("llama-bpe", "tekken")
    for text in TEXTS if name not in ("tekken", "gpt-4o") else TEXTS[:2]:  # ASCII: see the oracle
        expected = encode(text, name, tokens, merges, whole_words)
        assert ids(tokenizer, text) == expected, text
        assert tokenizer.decode(expected) == text


def test_the_rules_differ(made):
    """So the test above can fail."""
    found = {
        name: tuple(map(tuple, [ids(made(byte_level(name)), t) for t in TEXTS]))
        for name in ("gpt-2", "smollm", "llama-bpe", "qwen2", "default", "falcon")
    }
    assert len(set(found.values())) == len(found)


def test_rules_of_the_libraries_own(made):
    """GPT-2's and SmolLM's tokenizer.json name these parts."""
    parts = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), parts])
    for name, expected in (("gpt-2", parts), ("smollm", digits)):
        found = made(byte_level(name)).backend_tokenizer.pre_tokenizer
        for text in TEXTS:
            assert found.pre_tokenize_str(text) == expected.pre_tokenize_str(text)


def test_control_and_added_tokens_are_found_in_a_text(made):
    tokenizer = made(byte_level("gpt-2"))
    tokens, _ = trained()
    found = ids(tokenizer, "a<|im_start|>a<think> a")
    assert [tokens[one] for one in found][1::2][:2] == ["<|im_start|>", "<think>"]
    assert tokenizer.decode(found, skip_special_tokens=True) == "aa<think> a"
    assert tokens[-1] not in tokenizer.convert_ids_to_tokens(ids(tokenizer, tokens[-1]))
    assert (tokenizer.eos_token_id, tokenizer.bos_token_id, len(tokenizer)) == (0, 1, len(tokens))


@pytest.mark.parametrize(
    ("pre", "keys", "before", "behind"),
    [
        ("gpt-2", {}, [], []),
        ("gpt-2", {"add_bos_token": True}, [1], []),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, [1], [0]),
        ("llama-bpe", {}, [1], []),  # as llama.cpp, where the file does not say
        ("llama-bpe", {"add_bos_token": False}, [], []),
    ],
)
def test_what_is_put_around_a_text(pre, keys, before, behind, made, tmp_path):
    tokenizer = made(byte_level(pre, **keys))
    inner = ids(tokenizer, TEXTS[0])
    assert tokenizer(TEXTS[0])["input_ids"] == [*before, *inner, *behind]
    tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved")(TEXTS[0])["input_ids"] == [*before, *inner, *behind]


def test_a_saved_model_keeps_its_tokenizer(tmp_path):
    """The rule that transformers does not know is in tokenizer.json then."""
    path = write(tmp_path / "m.gguf", make_model("llama"), tokenizer=byte_level("smollm"))
    model, tokenizer = load_model(path, device="cpu")
    model.save_pretrained(tmp_path / "plain")
    tokenizer.save_pretrained(tmp_path / "plain")
    again = HookedModel.from_pretrained(tmp_path / "plain", device="cpu").tokenizer
    assert [ids(again, text) for text in TEXTS] == [ids(tokenizer, text) for text in TEXTS]


@pytest.mark.parametrize("pre", ["smollm", "llama-bpe"])  # without and with a begin token
def test_the_bridge_takes_the_tokenizer(pre, tmp_path):
    path = write(tmp_path / "m.gguf", make_model("llama"), tokenizer=byte_level(pre))
    model = HookedModel.from_pretrained(path, device="cpu")
    tokens = torch.tensor([ids(model.tokenizer, TEXTS[0])])
    assert torch.equal(model.bridge.to_tokens(TEXTS[0], prepend_bos=False), tokens)
    assert torch.allclose(model.bridge(tokens), model.hf(tokens).logits, atol=1e-4)
    assert model.tokenizer.init_kwargs.get("name_or_path") is None  # its own is as it was


def test_chat_templates(made):
    one = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    values = {**byte_level("gpt-2"), "tokenizer.chat_template": one}
    chat = [{"role": "user", "content": "a"}]
    assert made(values).apply_chat_template(chat, tokenize=False) == "<|im_start|>a"
    values["tokenizer.chat_template.tool_use"] = "tools: {{ messages[0].content }}"
    several = made(values)
    assert several.apply_chat_template(chat, tokenize=False) == "<|im_start|>a"
    told = several.apply_chat_template(chat, tokenize=False, chat_template="tool_use")
    assert told == "tools: a"


def sentencepiece(**more):
    """A vocabulary of pieces with scores, bytes to fall back on, and blanks of its own."""
    words = ["▁the", "▁capital", "▁of", "▁France", "in", "▁is", "er", "th", "▁t", "he", "19", "99"]
    pieces = ["▁", *sorted(set("".join(words)) | set("abcdefghilmnoprstu.")), *words]
    partial = {word[:cut] for word in words for cut in range(2, len(word))}
    pieces = list(dict.fromkeys([*pieces, *sorted(partial)]))
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    types = [2, 3, 3, *[6] * 256]
    own = ["\n\n", "  ", "   "]
    tokens, types = [*tokens, *own, *pieces], [*types, *[4] * len(own), *[1] * len(pieces)]
    scores = [0.0] * 259 + [-1000.0] * len(own) + [-float(n) for n in range(len(pieces))]
    values = {
        "model": "llama",
        "tokens": tokens,
        "token_type": types,
        "scores": scores,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
        **more,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def processor(values, prefix):
    """SentencePiece's own program on the same pieces."""
    library = pytest.importorskip("sentencepiece")
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2").ModelProto()
    for token, kind, score in zip(
        *(values[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type", "scores")),
        strict=True,
    ):
        text = token.replace(" ", "▁") if kind == 4 else token
        proto.pieces.add(piece=text, score=score, type=kind)
    proto.trainer_spec.model_type = 2  # BPE
    proto.trainer_spec.byte_fallback = True
    proto.trainer_spec.unk_id, proto.trainer_spec.bos_id, proto.trainer_spec.eos_id = 0, 1, 2
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.add_dummy_prefix = prefix
    proto.normalizer_spec.remove_extra_whitespaces = False
    return library.SentencePieceProcessor(model_proto=proto.SerializeToString())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("prefix", [True, False])
def test_pieces_are_joined_as_sentencepiece_does(prefix, made):
    values = sentencepiece(add_space_prefix=None if prefix else False)
    tokenizer, library = made(values), processor(values, prefix)
    texts = [
        "the capital of France is",
        "in the  other   theater\n\n1999 9",
        "naïve 漢字 🤖",
        "tthehe thin",
    ]
    for text in texts:
        if prefix and "  " in text:  # behind an added token llama.cpp and Llama 2 put a blank again
            continue
        expected = library.encode(text)
        assert ids(tokenizer, text) == expected, text
        assert tokenizer(text)["input_ids"] == [1, *expected]  # its default
        assert tokenizer.decode(expected) == text
    assert ids(tokenizer, "in</s>in") != library.encode("in</s>in")  # a control token is one here


def test_a_byte_that_is_no_piece_falls_back(made):
    tokenizer = made(sentencepiece())
    assert tokenizer.convert_ids_to_tokens(ids(tokenizer, "é"))[1:] == ["<0xC3>", "<0xA9>"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (byte_level("plamo"), "cuts text by the rule 'plamo', which is not known here, .*--tokeni"),
        (byte_level("gpt-2", model="t5"), "a tokenizer of kind 't5' is not read; known: gpt2 .by"),
        (byte_level("gpt-2", model=None), "it holds no tokenizer"),
        (byte_level("gpt-2", tokens=None), "its tokenizer has no tokens"),
        (byte_level("gpt-2", merges=None), "its tokenizer has no merges"),
        (byte_level("gpt-2", merges=["qq zz"]), "its merges and vocabulary do not fit"),
        (byte_level("gpt-2", tokens=["a", "b", "a"], token_type=None), "stand twice in the voc.*a"),
        (byte_level("gpt-2", token_type=[1, 1]), "has 398 tokens and 2 entries in token_type"),
        (byte_level("gpt-2", bos_token_id=None, add_bos_token=True), "adds a bos token and does"),
        (sentencepiece(scores=None), "its tokenizer has no scores"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_says_why(values, message, tmp_path):
    path = write(tmp_path / "m.gguf", make_model("llama"), tokenizer=values)
    with pytest.raises(CircuitsError, match=f"m.gguf: .*{message}"):
        load_tokenizer(path)
    model = HookedModel.from_pretrained(path, device="cpu")  # ready token ids need none
    with pytest.raises(CircuitsError, match=f"{message}.*--tokenizer"):
        _ = model.tokenizer


@pytest.mark.parametrize("pre", [None, "default"])
def test_a_file_that_names_no_rule_is_cut_as_llama_cpp_does(pre, made, caplog):
    tokens, merges = trained()
    tokenizer = made(byte_level(pre))
    assert "m.gguf: does not say how its tokenizer cuts text; cut as llama.cpp" in caplog.text
    assert [ids(tokenizer, t) for t in TEXTS] == [
        encode(t, "default", tokens, merges) for t in TEXTS
    ]
