"""Pairs, sets of pairs, and batches of them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import CircuitsError
from tasks.pairs import PairSet, PromptPair, TrainingExample

ids = st.integers(0, 30)


@st.composite
def rows(draw):
    """What a pair is made of. Made outside the strategy: run-time type checks draw at random."""
    size = draw(st.integers(2, 9))
    clean = draw(st.lists(ids, min_size=size, max_size=size))
    place = draw(st.integers(0, size - 1))
    answer = draw(st.lists(ids, min_size=1, max_size=4))
    return clean, place, answer, draw(st.integers(0, 99))


def made(parts):
    pairs = []
    for clean, place, answer, number in parts:
        corrupted = [*clean]
        corrupted[place] += 1
        pairs.append(
            PromptPair(
                tuple(clean),
                tuple(corrupted),
                tuple((token,) for token in answer),
                tuple(() if token % 2 else (token + 1,) for token in answer),
                ((place, place + 1),),
                f"row {number}",
            )
        )
    return PairSet(tuple(pairs))


sets = st.lists(rows(), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(sets, st.integers(1, 4))
def test_batches_hold_every_pair_once_and_as_it_is(parts, size):
    pairs, seen = made(parts), []
    for batch in pairs.batches(size):
        assert len(batch) <= size
        for row, place in enumerate(batch.index.tolist()):
            pair = pairs[place]
            seen.append(place)
            length = len(pair)
            assert batch.mask[row].tolist() == [i < length for i in range(batch.mask.shape[1])]
            assert batch.clean[row, :length].tolist() == [*pair.clean, *pair.teacher_forced]
            assert batch.corrupted[row, :length].tolist() == [*pair.corrupted, *pair.teacher_forced]
            assert not batch.clean[row, length:].any()
            reads = (batch.example_index == row).nonzero().flatten().tolist()
            first = len(pair.clean) - 1
            assert batch.position[reads].tolist() == [first + i for i in range(len(pair.answer))]
            for read, right, wrong in zip(reads, pair.answer, pair.wrong, strict=True):
                assert [t for t in batch.answer[read].tolist() if t >= 0] == list(right)
                assert [t for t in batch.wrong[read].tolist() if t >= 0] == list(wrong)
            assert batch.sources[row] == pair.source
    assert sorted(seen) == list(range(len(pairs)))


@settings(max_examples=30, deadline=None)
@given(sets, st.integers(1, 6), st.integers(1, 12))
def test_batches_keep_longer_pairs_apart(parts, size, threshold):
    pairs = made(parts)
    made_apart = pairs.batches(size, apart=threshold)
    batches = [batch.mask.sum(dim=1).tolist() for batch in made_apart]
    assert sum(map(len, batches)) == len(pairs)
    assert all(min(found) > threshold or max(found) <= threshold for found in batches)


@settings(max_examples=30, deadline=None)
@given(sets)
def test_save_and_load(tmp_path_factory, parts):
    pairs = made(parts)
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    pairs.save(path)
    again = PairSet.load(path)
    assert again == pairs and again.fingerprint == pairs.fingerprint


def test_fingerprints_tell_sets_apart():
    one = PairSet((PromptPair((1, 2), (1, 3), ((4,),)),))
    other = PairSet((PromptPair((1, 2), (1, 3), ((5,),)),))
    assert one.fingerprint != other.fingerprint
    assert PairSet(one.pairs, task="another", split="test").fingerprint == one.fingerprint


def test_pairs_seen_before_are_counted_by_their_ids():
    pairs = [PromptPair((1, 2), (1, 3), ((token,),), source=f"row {token}") for token in range(4)]
    seen, asked = PairSet(tuple(pairs[:3])), PairSet((pairs[3], replace(pairs[1], source="x")))
    assert [len(one) for one in seen.fingerprints] == [16] * 3
    assert len(set(seen.fingerprints)) == 3 and seen.fingerprint[:16] not in seen.fingerprints
    assert asked.shared(seen.fingerprints) == 1 and seen.shared([]) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corrupted": (1, 2)}, "3 tokens and the corrupted one 2; patching needs equal lengths"),
        ({"corrupted": (1, 2, 3)}, "identical"),
        ({"clean": (), "corrupted": ()}, "no tokens"),
        ({"answer": ()}, "the answer has no tokens"),
        ({"answer": ((5,), ())}, "the answer has no tokens"),
        ({"answer": ((5, 6), (7,))}, "exactly one token at each"),
        ({"wrong": ((6,), (7,))}, "1 positions and the wrong answer 2"),
        ({"wrong": ((5,),)}, "token 5 is both right and wrong"),
        ({"answer": ((5, 6, 5),)}, "token 5 stands twice in an answer's set"),
        ({"wrong": ((6, 6),)}, "token 6 stands twice"),
        ({"spans": ((1, 9),)}, "span 1-9 lies outside the prompt's 3 tokens"),
    ],
)
def test_impossible_pairs_name_their_row(changes, message):
    given = {"clean": (1, 2, 3), "corrupted": (1, 4, 3), "answer": ((5,),), **changes}
    with pytest.raises(CircuitsError, match=r"pairs\.csv, row 7: .*" + message):
        PromptPair(**given, source="pairs.csv, row 7")


@pytest.mark.parametrize(
    ("changes", "odd"), [({"answer": ((5.0,),)}, "5.0"), ({"corrupted": (1, True, 3)}, "True")]
)
def test_token_ids_are_whole_numbers(changes, odd):
    """As a file may hold them; set behind the constructor, whose types tests check themselves."""
    pair = PromptPair((1, 2, 3), (1, 4, 3), ((5,),), source="row 7")
    for name, value in changes.items():
        object.__setattr__(pair, name, value)
    with pytest.raises(CircuitsError, match=f"row 7: {odd} is no token id; ids are whole numbers"):
        pair.__post_init__()


def test_sets_are_checked_against_a_model():
    pairs = PairSet((PromptPair((1, 2), (1, 3), ((4,), (9,)), source="row 2"),))
    pairs.validate(d_vocab=10, n_ctx=3)
    with pytest.raises(CircuitsError, match=r"row 2: 3 tokens .*context window holds 2"):
        pairs.validate(d_vocab=10, n_ctx=2)
    with pytest.raises(CircuitsError, match="row 2: token id 9 is outside the model's vocabulary"):
        pairs.validate(d_vocab=9, n_ctx=None)


def test_empty_sets_and_examples_are_refused():
    with pytest.raises(CircuitsError, match="an empty set"):
        PairSet(())
    with pytest.raises(CircuitsError, match="row 1: the prompt or the target has no tokens"):
        TrainingExample((1,), (), "row 1")


def test_slices_are_sets_and_batches_move():
    pairs = PairSet(tuple(PromptPair((1, 2), (1, 3), ((i,),)) for i in range(4, 8)), split="test")
    assert len(pairs[:2]) == 2 and pairs[:2].split == "test" and pairs[3].answer == ((7,),)
    batch = pairs.batch([0, 1]).to("meta")
    assert batch.clean.device == torch.device("meta") and batch.wrong.device.type == "meta"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ('{"task": "t"}\n{"clean": [1', "line 2: not JSON"),
        ('{"task": "t"}\n{"colour": 1}', "not a file written by PairSet.save"),
    ],
)
def test_broken_files_are_named(content, message, tmp_path):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(CircuitsError, match=r"p\.jsonl.*" + message):
        PairSet.load(tmp_path / "p.jsonl")
