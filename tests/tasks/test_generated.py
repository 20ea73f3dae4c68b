"""What holds for every task that is made of templates and words."""

import random
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import pytest

import tasks
from tasks.errors import CircuitsError
from tasks.generated import Generated, Prompts
from tasks.text.lexicon import by_length, of_one_length, of_split, single_tokens, words

SPLITS = ["train", "validation", "test"]
OPTIONS = [
    *(("transitive", {"corruption": c}) for c in ("exchange", "replace", "unlink")),
    *(
        ("comparison", {"corruption": c, "order": o})
        for c, o in [("numbers", "both"), ("names", "less-first"), ("players", "more-first")]
    ),
    *(("name-copying", {"corruption": c}) for c in ("surname", "first-name")),
    *(
        ("ioi", {"corruption": c, "order": o})
        for c, o in [("abc", "both"), ("swap", "abba"), ("swap", "baba")]
    ),
    ("greater-than", {}),
    *(
        ("agreement", {"corruption": c, "structure": s, "attractor": a})
        for c, s, a in [("number", "both", "any"), ("noun", "clause", "other")]
    ),
    ("capitals", {}),
    *(("docstring", {"corruption": c}) for c in ("exchange", "random")),
    ("hypernymy", {}),
    *(("induction", {"corruption": c}) for c in ("successor", "cue")),
    ("pronoun", {}),
]
every = pytest.mark.parametrize(
    ("name", "options"),
    OPTIONS,
    ids=lambda value: value if isinstance(value, str) else "-".join(value.values()),
)


@every
@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_of_equal_length_and_differ_within_the_spans_only(
    word_tokenizer, name, options, split
):
    made = tasks.load(name, **options).pairs(word_tokenizer, 60, split=split)
    assert (len(made), made.task, made.split) == (60, name, split)
    for pair in made:
        assert len(pair.clean) == len(pair.corrupted)
        inside = {i for start, end in pair.spans for i in range(start, end)}
        assert inside == {i for i in range(len(pair.clean)) if pair.clean[i] != pair.corrupted[i]}
        assert inside
        assert len(pair.answer) == 1  # every word is a token of this tokenizer
        assert pair.wrong and not set(pair.answer[0]) & set(pair.wrong[0])


@every
def test_pairs_are_their_prompts(word_tokenizer, name, options):
    task = tasks.load(name, **options)
    pairs = task.pairs(word_tokenizer, 20, split="test", seed=2)
    for pair, prompts in zip(
        pairs, task.prompts(word_tokenizer, 20, split="test", seed=2), strict=True
    ):
        assert word_tokenizer.decode(pair.clean) == prompts.clean
        assert word_tokenizer.decode(pair.corrupted) == prompts.corrupted
        if isinstance(prompts.answer, str):
            assert word_tokenizer.decode(pair.answer[0]) == prompts.answer
            assert word_tokenizer.decode(pair.wrong[0]) == prompts.wrong
        else:
            assert (pair.answer[0], pair.wrong[0]) == (prompts.answer, prompts.wrong)
    assert pairs[7].source == f"{name} test pair 7"


@every
def test_the_seed_decides(word_tokenizer, name, options):
    task = tasks.load(name, **options)
    first = task.pairs(word_tokenizer, 20, split="test", seed=3)
    assert first.fingerprint == task.pairs(word_tokenizer, 20, split="test", seed=3).fingerprint
    assert first.fingerprint != task.pairs(word_tokenizer, 20, split="test", seed=4).fingerprint
    assert first.pairs[:7] == task.pairs(word_tokenizer, 7, split="test", seed=3).pairs


@every
@pytest.mark.exhaustive_but(
    "transitive-exchange",
    "ioi-abc-both",
    "agreement-number-both-any",
    "capitals-",
)
def test_splits_share_no_prompt_and_none_comes_twice(word_tokenizer, name, options):
    task = tasks.load(name, **options)
    sets = {}
    for split in SPLITS:
        pairs = task.pairs(word_tokenizer, 150, split=split)
        sets[split] = {pair.clean for pair in pairs}
        assert len(sets[split]) == 150
    corrupted = {
        split: {pair.corrupted for pair in task.pairs(word_tokenizer, 150, split=split)}
        for split in SPLITS
    }
    for one, other in product(SPLITS, SPLITS):
        if one != other:
            assert not sets[one] & sets[other]
            assert not sets[one] & corrupted[other]


@pytest.mark.parametrize("name", ["transitive", "comparison", "name-copying", "ioi", "agreement"])
def test_a_corruption_leaves_the_clean_prompts_as_they_are(word_tokenizer, name):
    corruptions = [o["corruption"] for task, o in OPTIONS if task == name]
    clean = {
        tuple(
            pair.clean
            for pair in tasks.load(name, corruption=corruption).pairs(word_tokenizer, 30, seed=1)
        )
        for corruption in corruptions
    }
    assert len(set(corruptions)) > 1 and len(clean) == 1


@every
def test_add_bos(word_tokenizer, name, options):
    plain = tasks.load(name, **options).pairs(word_tokenizer, 5)
    with_bos = tasks.load(name, **options, add_bos=True).pairs(word_tokenizer, 5)
    for before, after in zip(plain, with_bos, strict=True):
        assert after.clean == (word_tokenizer.bos_token_id, *before.clean)
        assert after.corrupted == (word_tokenizer.bos_token_id, *before.corrupted)
        assert after.spans == tuple((start + 1, end + 1) for start, end in before.spans)


@every
def test_refusals(word_tokenizer, name, options):
    task = tasks.load(name, **options)
    with pytest.raises(CircuitsError, match=f"^{name}: no split 'all'; it has: train, validation"):
        task.pairs(word_tokenizer, 5, split="all")
    with pytest.raises(CircuitsError, match=f"^{name}: 0 pairs asked for; at least 1"):
        task.pairs(word_tokenizer, 0)
    with pytest.raises(CircuitsError, match=rf"^{name} train pair \d+: .* context window holds 6"):
        task.pairs(word_tokenizer, 5, n_ctx=6)


@pytest.mark.parametrize("name", ["transitive", "comparison", "name-copying", "ioi", "agreement"])
def test_an_unknown_corruption_lists_the_known(name):
    known = [o["corruption"] for task, o in OPTIONS if task == name]
    with pytest.raises(
        CircuitsError, match=f"^{name}: unknown corruption 'noise'; known: {known[0]}"
    ):
        tasks.load(name, corruption="noise")


@dataclass(frozen=True)
class _Letters(Generated):
    """Three prompts and no more."""

    answer: str = " b"
    name: ClassVar[str] = "letters"

    def _maker(self, tokenizer, split):
        def make(rng: random.Random) -> list[Prompts]:
            letter = rng.choice("xyz")
            return [Prompts(f"a {letter}", f"a {letter} a", self.answer, " c")]

        return make


def test_a_task_that_has_no_more_prompts_says_how_many_there_are(word_tokenizer):
    assert len(_Letters().prompts(word_tokenizer, 3)) == 3
    with pytest.raises(CircuitsError, match=r"'train': 4 different prompts are asked.* 3 were fou"):
        _Letters().prompts(word_tokenizer, 4)


def test_rows_are_named(word_tokenizer):
    with pytest.raises(CircuitsError, match=r"^letters train pair 0: the clean .* corrupted"):
        _Letters().pairs(word_tokenizer, 1)
    with pytest.raises(
        CircuitsError, match=r"^letters train pair 0: the answer ' qqq' is \d tokens after the pro"
    ):
        _Letters(" qqq").pairs(word_tokenizer, 1)


def test_words_of_one_token(word_tokenizer, tokenizer):
    names = words("first_names")
    assert single_tokens(word_tokenizer, names, 4, "x") == list(names)
    few = ["Bell", "Crane", "Quentin"]  # the articles have the first two
    assert single_tokens(tokenizer, few, 2, "x") == ["Bell", "Crane"]
    with pytest.raises(
        CircuitsError, match=r"^x: 2 of 3 are single tokens .* \('Quentin' is \[.*\]\), and at le"
    ):
        single_tokens(tokenizer, few, 3, "x")
    with pytest.raises(CircuitsError, match=r"^x: 0 of 0 are single tokens"):
        single_tokens(tokenizer, [], 1, "x")


def test_words_of_one_length_are_as_short_as_can_be(tokenizer):
    listed = ["Bell", "Crane", "Bellx", "Cranex", "Dunnx"]
    assert {n: list(group) for n, group in by_length(tokenizer, listed).items()} == {
        1: ["Bell", "Crane"],
        2: ["Bellx", "Cranex", "Dunnx"],
    }
    assert of_one_length(tokenizer, listed, 2, "x") == ["Bell", "Crane"]
    assert of_one_length(tokenizer, listed, 3, "x") == ["Bellx", "Cranex", "Dunnx"]
    with pytest.raises(CircuitsError, match=r"^x: no 4 of 5 .* so many tokens: 2 of 1, 3 of 2\)"):
        of_one_length(tokenizer, listed, 4, "x")


def test_unknown_and_equal_words_are_left_out():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(models.WordLevel({"[UNK]": 0, "the": 1, "rose": 2}, unk_token="[UNK]"))
    model.normalizer = normalizers.Lowercase()
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    lower = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="[UNK]")
    assert single_tokens(lower, ["Rose", "rose", "tulip"], 1, "x") == ["Rose"]


@pytest.mark.parametrize(
    "kind", ["first_names", "surnames", "players", "events", "places", "countables"]
)
def test_the_word_lists(kind):
    listed = words(kind)
    assert len(set(listed)) == len(listed) >= 8
    parts = [of_split(listed, split) for split in SPLITS]
    assert sorted(word for part in parts for word in part) == sorted(listed)
