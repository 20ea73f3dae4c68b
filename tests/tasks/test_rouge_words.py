"""ROUGE of texts of any script: rouge-score's own on English, and not 0 on others."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

import tasks
from tasks.errors import CircuitsError
from tasks.text.rouge import chosen_words, f_measures, unicode_words
from tasks.text.salience import annotate

KINDS = ("rouge1", "rouge2", "rougeL")
SAME = {
    "Russian": "Мэр открыл новый мост",
    "Greek": "δήμαρχος άνοιξε τη γέφυρα",
    "Chinese": "市长今天辞职了",
    "Japanese": "市長がカードを辞退した",
    "Korean": "시장이 다리를 열었다",
    "Thai": "นายกเทศมนตรีเปิดสะพาน",
    "Arabic": "فتح العمدة الجسر الجديد",
    "Hindi": "मेयर ने नया पुल खोला",
    "Hebrew": "ראש העיר פתח גשר",
    "Burmese": "မြို့တော်ဝန်က တံတားဖွင့်",
    "with a Latin name": "Компания Apple открыла магазин",
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_identical_texts_score_one(text):
    assert chosen_words(text) == "unicode"
    assert f_measures(text, text, KINDS) == dict.fromkeys(KINDS, 1.0)
    half = text[: len(text) // 2]
    assert all(0 < score < 1 for score in f_measures(text, half, ("rouge1", "rougeL")).values())


@given(st.text(alphabet=st.characters(max_codepoint=127)), st.text(alphabet="abc de.F"))
def test_on_ascii_every_way_is_rouge_scores_own(reference, text):
    scores = RougeScorer(list(KINDS), use_stemmer=True).score(reference, text)
    expected = {kind: score.fmeasure for kind, score in scores.items()}
    if not unicode_words(reference):
        expected = dict.fromkeys(KINDS, float(bool(text.strip()) and text == reference))
    for words in ("auto", "ascii", "unicode"):
        assert f_measures(reference, text, KINDS, words=words) == expected


def test_english_with_accents_stays_as_published():
    reference, text = "The naïve mayor resigned in Malmö on Friday.", "Mayor of Malmö resigned."
    own = RougeScorer(list(KINDS), use_stemmer=True).score(reference, text)
    assert f_measures(reference, text, KINDS) == {k: own[k].fmeasure for k in KINDS}
    assert f_measures(reference, text, KINDS, words="unicode") != f_measures(reference, text, KINDS)


def test_words_of_other_scripts():
    assert unicode_words("Мэр, 2024—ГОД!") == ["мэр", "2024", "год"]
    assert unicode_words("2024年に東京で") == ["2024", "年", "に", "東", "京", "で"]
    assert unicode_words("カード") == ["カ", "ー", "ド"]
    assert unicode_words("น้ำ") == unicode_words("น้ํา") and len(unicode_words("ที่นี่")) == 2
    assert unicode_words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert unicode_words("STRASSE Straße") == ["strasse", "strasse"]
    assert unicode_words("\uff12\uff10\uff12\uff14 \uff21") == ["2024", "a"]


def test_unrelated_sentences_that_share_a_year_are_not_alike():
    one, other = "2024年北京下了大雪", "上海队在2024年赢得冠军"
    assert RougeScorer(["rouge1"]).score(one, other)["rouge1"].fmeasure == 1.0
    assert f_measures(one, other, ("rouge1",))["rouge1"] < 0.3


ARTICLES = [
    (
        "Дождь шёл весь день 2024 года. Мэр города вчера открыл новый мост. Кошки спали.",
        "Мэр открыл новый мост в 2024 году.",
        1,
    ),
    ("2024年北京下了大雪。市长昨天宣布辞职。猫在睡觉。", "市长在2024年辞职。", 1),
    ("मेयर ने नया पुल खोला। बारिश हुई। बिल्ली सो रही है।", "मेयर ने पुल खोला।", 0),
]


@pytest.mark.parametrize(("article", "summary", "salient"), ARTICLES)
def test_the_salient_sentence_is_found(article, summary, salient):
    sentences = annotate(article, summary, 1)
    assert len(sentences) == 3
    assert [sentence.salient for sentence in sentences] == [i == salient for i in range(3)]
    assert max(range(3), key=lambda i: sentences[i].score) == salient


def test_a_task_of_another_script(tmp_path, tokenizer):
    path = tmp_path / "articles.jsonl"
    rows = [{"article": article, "summary": summary} for article, summary, _ in ARTICLES]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    options = {"path": path, "corruption": "filler", "salient": 1}
    pairs = tasks.load("summarization", **options).pairs(tokenizer, split="all")
    for pair, (article, _, _) in zip(pairs, ARTICLES, strict=True):
        ((start, end),) = pair.spans
        assert tokenizer.decode(pair.clean[start:end]).strip() in article
    with pytest.raises(
        CircuitsError, match=r"line 3: no word of .* which is all that rouge-score sees, .*unicode"
    ):
        tasks.load("summarization", words="ascii", **options).pairs(tokenizer, split="all")
    with pytest.raises(CircuitsError, match=r"unknown words 'thai'; known: auto, ascii"):
        tasks.load("summarization", words="thai", **options)


def test_a_reference_without_words():
    assert f_measures("!!!", "!!!", ("rouge1",)) == {"rouge1": 1.0}
    assert f_measures("!!!", "???", ("rouge1",)) == f_measures("", "", ("rouge1",)) == {"rouge1": 0}
