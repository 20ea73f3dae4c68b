import pytest

from tasks.text.salience import annotate, oracle, rouge

SENTENCES = ["The cat sat.", "Rain fell all day.", "A dog ran home.", "The cat sat there again."]


def test_rouge_is_the_mean_of_two_f1s():
    # "the cat sat" against "the cat slept": unigram F1 2/3, bigram F1 1/2.
    assert rouge("the cat slept", "The cat sat.") == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert rouge("the cat sat", "Nothing alike") == 0
    assert rouge("dogs running", "dog runs") > 0.5  # stems


def test_the_oracle_adds_what_helps_and_then_stops():
    summary = "The cat sat. A dog ran home."
    assert oracle(SENTENCES, summary, 1) == {2}
    assert oracle(SENTENCES, summary, 2) == {0, 2}
    assert oracle(SENTENCES, summary, 4) == {0, 2}  # a third sentence lowers the score
    assert oracle(SENTENCES, "xylophone", 2) == set()
    assert oracle([], summary, 2) == set()


def test_annotate_gives_every_sentence_its_place():
    article = "  ".join(SENTENCES)
    sentences = annotate(article, "A dog ran home", 1)
    assert [sentence.text for sentence in sentences] == SENTENCES
    assert all(article[s.start : s.end] == s.text for s in sentences)
    assert [s.salient for s in sentences] == [False, False, True, False]
    assert max(sentences, key=lambda s: s.score).salient
    assert sentences[2].score == 1
