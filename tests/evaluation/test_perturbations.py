"""Perturbed prompts: what changes, and what must not."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import tasks
from circuits.errors import CircuitsError
from circuits.evaluation import PERTURBATIONS, perturb
from circuits.models.checkpoints import load_tokenizer, resolve
from tasks.pairs import PairSet, PromptPair

CONTEXT = 128


@pytest.fixture(scope="module")
def newsroom():
    tokenizer = load_tokenizer(*resolve("newsroom-gpt2"))
    return tokenizer, tasks.load("newsroom").pairs(tokenizer, n=12, split="test", n_ctx=CONTEXT)


def differing(pair):
    return [(a, b) for a, b in zip(pair.clean, pair.corrupted, strict=True) if a != b]


def sentences(tokenizer, tokens):
    return [one.strip() for one in tokenizer.decode(tokens).split(".")]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_what_tells_the_prompts_apart_stays(kind, newsroom):
    tokenizer, pairs = newsroom
    made = perturb(pairs, kind, tokenizer, n_ctx=CONTEXT)
    by_source = {pair.source: pair for pair in pairs}
    assert len(made) >= 10
    for pair in made:
        old = by_source[pair.source.removesuffix(f", {kind}")]
        assert pair.clean != old.clean and pair.answer == old.answer and pair.wrong == old.wrong
        assert sorted(differing(pair)) == sorted(differing(old))
        spans = sorted(pair.clean[a:b] for a, b in pair.spans)
        assert sum(map(len, spans)) == sum(b - a for a, b in old.spans)
        inside = {at for start, end in pair.spans for at in range(start, end)}
        sides = enumerate(zip(pair.clean, pair.corrupted, strict=True))
        assert all(at in inside or a == b for at, (a, b) in sides)
        assert tokenizer.decode(pair.clean).endswith("TL;DR:") and len(pair) <= CONTEXT
    assert made.fingerprint == perturb(pairs, kind, tokenizer, n_ctx=CONTEXT).fingerprint
    assert made.fingerprint != perturb(pairs, kind, tokenizer, n_ctx=CONTEXT, seed=1).fingerprint


def test_each_does_what_it_says(newsroom):
    tokenizer, pairs = newsroom
    every = {sentence for pair in pairs for sentence in sentences(tokenizer, pair.clean)}
    for kind in ("longer", "shorter", "sentence-order", "typos"):
        for number, pair in enumerate(perturb(pairs, kind, tokenizer)):
            old = sentences(tokenizer, pairs[number].clean)
            new = sentences(tokenizer, pair.clean)
            if kind == "longer":
                assert new[:1] == old[:1] and new[2:] == old[1:] and new[1] in every
            elif kind == "shorter":
                assert len(new) == len(old) - 1 and set(new) < set(old)
            elif kind == "sentence-order":
                assert new != old and sorted(new) == sorted(old)
                assert new[0] == old[0] and new[-1] == old[-1]
            else:
                swapped = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
                assert swapped and all(sorted(a) == sorted(b) for a, b in swapped)


def test_pairs_that_cannot_be_changed_are_left_out_or_refused(newsroom, random_pairs):
    tokenizer, pairs = newsroom
    assert len(perturb(pairs, "longer", tokenizer, n_ctx=len(max(pairs, key=len)))) < len(pairs)
    with pytest.raises(CircuitsError, match=r"longer changes no pair; it needs a sentence .* fit"):
        perturb(pairs, "longer", tokenizer, n_ctx=20)
    word = tokenizer(" Nash")["input_ids"]
    short = PromptPair((*word, 5), (*word, 6), ((7,),), source="row 1")
    for kind in PERTURBATIONS:
        with pytest.raises(CircuitsError, match=f"{kind} changes no pair"):
            perturb(PairSet((short,)), kind, tokenizer)
    with pytest.raises(CircuitsError, match="unknown perturbation 'noise'; known: typos, longer"):
        perturb(pairs, "noise", tokenizer)


@pytest.mark.parametrize("legacy", [False, True])
def test_typos_keep_the_spaces_of_sentencepiece(legacy):
    text = (
        "The whole report is about Howard Murphy. Somebody had left the light on. "
        "Nobody was surprised by the news. The last word came from Howard"
    )
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    if legacy:  # Llama 2 prepends a space even to a text that begins with one
        inner.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    strip = decoders.Strip(" ", 1, 0)
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), strip])
    letters = [*sorted(set(text) - {" "}), "▁"]
    # Merges within words only, as SentencePiece has them.
    trainer = trainers.BpeTrainer(special_tokens=["<unk>"], initial_alphabet=letters)
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    words.train_from_iterator([text] * 20, trainer)
    inner.model = words.model
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")

    def ids(words):
        return tuple(tokenizer(words, add_special_tokens=False)["input_ids"])

    clean = ids(text)
    pair = PromptPair(clean, (clean[1], *clean[1:]), (clean[-1:],), (clean[:1],))
    for seed in range(8):
        (made,) = perturb(PairSet((pair,)), "typos", tokenizer, seed=seed)
        old, new = text.split(" "), tokenizer.decode(made.clean).split(" ")
        assert len(new) == len(old) and new != old
        assert [sorted(word) for word in new] == [sorted(word) for word in old]


@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_what_a_template_writes_around_a_prompt_stays(kind, newsroom):
    tokenizer = load_tokenizer(*resolve("newsroom-gpt2"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "<|im_start|>system\nYou help. You resigned. The weather stayed dry.<|im_end|>\n"
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{{ message['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    pairs = tasks.load("newsroom", chat=True, corruption="swap").pairs(tokenizer, 12)
    whole = tokenizer.decode(pairs[0].clean)
    head, tail = whole.split("<|im_end|>")[0], whole.split("TL;DR:")[-1]
    assert "The weather stayed dry." in head and "assistant" in tail
    made = perturb(pairs, kind, tokenizer)
    assert len(made) >= 10
    for pair in made:
        text = tokenizer.decode(pair.clean)
        assert text.count("<|im_end|>") == 2 and text.startswith(f"{head}<|im_end|>")
        assert text.split("<|im_start|>")[2].lstrip().startswith("user\n")
        assert text.endswith(f"TL;DR:{tail}")
