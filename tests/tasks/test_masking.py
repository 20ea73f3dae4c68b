import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import CircuitsError
from tasks.text.masking import filler, shuffle, swap


@st.composite
def spanned(draw):
    tokens = tuple(draw(st.lists(st.integers(0, 9), min_size=1, max_size=30)))
    start = draw(st.integers(0, len(tokens) - 1))
    return tokens, (start, draw(st.integers(start + 1, len(tokens))))


def assert_outside_kept(before, after, span):
    start, end = span
    assert len(after) == len(before)
    assert after[:start] == before[:start]
    assert after[end:] == before[end:]


@given(spanned(), st.integers(0, 9))
def test_filler_fills_the_span_and_nothing_else(case, token):
    tokens, span = case
    after = filler(tokens, span, token)
    assert_outside_kept(tokens, after, span)
    assert set(after[slice(*span)]) == {token}


@given(spanned(), st.lists(st.integers(10, 19), max_size=40))
def test_swap_takes_the_first_tokens_or_refuses(case, replacement):
    tokens, (start, end) = case
    if len(replacement) < end - start:
        with pytest.raises(CircuitsError, match="at least as long"):
            swap(tokens, (start, end), replacement)
        return
    after = swap(tokens, (start, end), replacement)
    assert_outside_kept(tokens, after, (start, end))
    assert list(after[start:end]) == replacement[: end - start]


@given(spanned(), st.integers(0, 3))
def test_shuffle_changes_the_order_only(case, seed):
    tokens, span = case
    inside = tokens[slice(*span)]
    if len(set(inside)) == 1:
        with pytest.raises(CircuitsError, match="no other order"):
            shuffle(tokens, span, random.Random(seed))
        return
    after = shuffle(tokens, span, random.Random(seed))
    assert_outside_kept(tokens, after, span)
    assert after != tokens
    assert sorted(after) == sorted(tokens)
    assert after == shuffle(tokens, span, random.Random(seed))


@pytest.mark.parametrize("span", [(-1, 2), (2, 2), (3, 2), (0, 4)])
def test_a_span_outside_the_tokens_is_refused(span):
    with pytest.raises(CircuitsError, match="lies outside the 3 tokens"):
        filler((1, 2, 3), span, 0)
