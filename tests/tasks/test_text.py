import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tasks.errors import CircuitsError
from tasks.text.tokens import beginning, continuation, encode, encode_with_offsets, token_spans


@given(st.text(max_size=30))
def test_both_encodings_agree_and_add_nothing(tokenizer, text):
    ids = encode(tokenizer, text)
    assert encode_with_offsets(tokenizer, text).ids == ids
    assert tokenizer.decode(ids) == text


def test_token_spans_share_no_token():
    offsets = [(0, 3), (3, 7), (7, 8), (8, 12), (12, 12), (12, 15)]
    # The token 3-7 covers the end of the first range and the start of the second.
    assert token_spans(offsets, [(0, 5), (5, 8), (9, 15)]) == ((0, 2), (2, 3), (3, 6))
    assert token_spans(offsets, [(0, 5), (5, 6), (7, 8)]) == ((0, 2), (2, 2), (2, 3))
    assert token_spans([], [(0, 4)]) == ((0, 0),)


def test_a_continuation_is_what_follows_in_one_text(tokenizer):
    assert tokenizer.decode(continuation(tokenizer, "The mayor", " resigned")) == " resigned"
    with pytest.raises(CircuitsError, match="'ed' merges with the end of 'Ana Bell resign'"):
        continuation(tokenizer, "Ana Bell resign", "ed")


def test_what_a_tokenizer_lacks_is_said(unchecked, tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(CircuitsError, match="no beginning-of-text token"):
        beginning(bare)

    class Slow:
        is_fast = False

    with pytest.raises(CircuitsError, match="Slow is a slow one"):
        encode_with_offsets(Slow(), "a")


def test_a_tokenizer_that_marks_the_beginning_of_a_text():
    """Llama's way: a space is put before the text, so an answer alone has other tokens."""
    d_vocab = {"▁go": 0, "▁": 1, "▁on": 2, "g": 3, "o": 4, "n": 5}
    merges = [("▁g", "o"), ("o", "n"), ("▁", "on"), ("▁", "g")]
    d_vocab |= {"▁g": 6, "on": 7}
    model = Tokenizer(models.BPE(vocab=d_vocab, merges=merges))
    model.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    assert continuation(tokenizer, "go", " on") == (2,)
