import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.text.sentences import core, sentence_ranges

# Characters that make and break sentences, whitespace outside ASCII included.
pieces = st.sampled_from(
    [*".!? \n\t\"'()aBé😀", "\n\n", "\r\n", "\xa0", "\u2028", "\u3000", "Mr. ", "J.", "3.1", "…"]
)


@given(st.lists(pieces, max_size=30).map("".join) | st.text())
def test_sentences_tile_the_text(text):
    ranges = sentence_ranges(text)
    assert "".join(text[start:end] for start, end in ranges) == (text if text.strip() else "")
    for start, end in ranges:
        inner, outer = core(text, start, end)
        assert text[inner:outer] == text[start:end].strip() != ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Dr. Hale left D.C. on Monday. It rained.",
            ["Dr. Hale left D.C. on Monday.", "It rained."],
        ),
        ("One.\n\nTwo", ["One.", "Two"]),
        ("  One. 😀 Two!", ["One.", "😀 Two!"]),
        ("He met J.\xa0Smith. He left.", ["He met J.\xa0Smith.", "He left."]),
        (" \n ", []),
    ],
)
def test_sentences(text, expected):
    assert [text[slice(*core(text, *span))] for span in sentence_ranges(text)] == expected
