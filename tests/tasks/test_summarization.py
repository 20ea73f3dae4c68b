import csv
import json
from dataclasses import replace

import pytest

import tasks
from tasks.builtin.summarization import KNOWN_DATASETS
from tasks.builtin.summarization.donors import lend
from tasks.builtin.summarization.prompt import Prompt
from tasks.errors import CircuitsError
from tasks.task import TrainableTask
from tasks.text.sentences import sentence_ranges

SALIENT = "resigned as"


@pytest.fixture
def load(articles_file):
    def make(**options):
        return tasks.load("summarization", **{"path": articles_file, **options})

    return make


def outside(pair, tokens):
    masked = {i for start, end in pair.spans for i in range(start, end)}
    return [token for i, token in enumerate(tokens) if i not in masked]


@pytest.mark.parametrize("corruption", ["swap", "filler", "shuffle"])
def test_the_salient_sentence_is_corrupted_and_nothing_else(load, tokenizer, articles, corruption):
    pairs = load(corruption=corruption, salient=1).pairs(tokenizer, 6, split="all", n_ctx=150)
    assert (pairs.task, pairs.split, pairs.metric) == (
        "summarization",
        "all",
        "answer-log-probability",
    )
    for pair in pairs:
        row = articles[int(pair.source.removeprefix("articles.jsonl, line ")) - 1]
        assert tokenizer.decode(pair.clean) == row["article"] + " TL;DR:"
        assert tokenizer.decode([t for (t,) in pair.answer]) == " " + row["highlights"]
        ((start, end),) = pair.spans
        sentence = tokenizer.decode(pair.clean[start:end])
        assert sentence.startswith(" " + row["highlights"].removesuffix("."))
        assert sentence.endswith((".", "said"))
        assert outside(pair, pair.clean) == outside(pair, pair.corrupted)
        if corruption == "filler":
            assert tokenizer.decode(pair.corrupted[start:end]) == " the" * (end - start)
        elif corruption == "shuffle":
            assert sorted(pair.corrupted[start:end]) == sorted(pair.clean[start:end])
        else:
            assert tokenizer.decode(pair.corrupted[start:end]) != sentence
            assert tokenizer.decode(pair.corrupted[start:end]).startswith(" ")


def test_the_same_arguments_give_the_same_pairs(load, tokenizer):
    task = load(corruption="shuffle")
    pairs = task.pairs(tokenizer, 5, split="all", seed=3)
    assert load(corruption="shuffle").pairs(tokenizer, 5, split="all", seed=3) == pairs
    assert task.pairs(tokenizer, 8, split="all", seed=3).pairs[:5] == pairs.pairs
    assert task.pairs(tokenizer, 5, split="all", seed=4) != pairs
    assert load().pairs(tokenizer, 5, split="all") == load().pairs(tokenizer, 5, split="all")


def test_splits_share_no_article(load, tokenizer, articles):
    task = load(corruption="filler")
    sources = [
        {pair.source for pair in task.pairs(tokenizer, split=split)}
        for split in ("train", "validation", "test")
    ]
    assert sum(map(len, sources)) == len(set.union(*sources)) == len(articles)
    assert len(task.pairs(tokenizer, split="all")) == len(articles)
    with pytest.raises(CircuitsError, match=r"^articles\.jsonl, split 'all': 19 rows are asked"):
        task.pairs(tokenizer, 19, split="all")


def test_examples_are_the_same_articles_with_the_end_of_text(load, tokenizer):
    task = load()
    assert isinstance(task, TrainableTask)
    pairs = task.pairs(tokenizer, 4, split="all", seed=2)
    examples = task.examples(tokenizer, 4, split="all", seed=2, n_ctx=150)
    for pair, example in zip(pairs, examples, strict=True):
        assert (example.prompt, example.source) == (pair.clean, pair.source)
        assert example.target == (*(t for (t,) in pair.answer), tokenizer.eos_token_id)
    cut = load(max_summary_tokens=3)
    assert [len(pair.answer) for pair in cut.pairs(tokenizer, 4, split="all")] == [3] * 4
    assert all(
        len(example.target) == 3 and tokenizer.eos_token_id not in example.target
        for example in cut.examples(tokenizer, 4, split="all")
    )


def test_annotate_shows_the_corrupted_sentences(load, tokenizer):
    task = load(salient=1)
    pairs = task.pairs(tokenizer, 3, split="all")
    for pair, article in zip(pairs, task.annotate(tokenizer, 3, split="all"), strict=True):
        (sentence,) = [sentence for sentence in article.sentences if sentence.salient]
        assert article.source == pair.source
        assert len(article.sentences) == 5
        assert sentence.score == max(other.score for other in article.sentences)
        assert article.text[sentence.start : sentence.end] == sentence.text
        assert tokenizer.decode(pair.clean[slice(*pair.spans[0])]).strip() == sentence.text


def test_add_bos_shifts_the_spans(load, tokenizer):
    plain = load(corruption="filler").pairs(tokenizer, 3, split="all")
    begun = load(corruption="filler", add_bos=True).pairs(tokenizer, 3, split="all")
    for pair, shifted in zip(plain, begun, strict=True):
        assert shifted.clean == (tokenizer.bos_token_id, *pair.clean)
        assert shifted.corrupted == (tokenizer.bos_token_id, *pair.corrupted)
        assert shifted.spans == tuple((start + 1, end + 1) for start, end in pair.spans)
    examples = load(add_bos=True).examples(tokenizer, 3, split="all")
    assert [example.prompt for example in examples] == [pair.clean for pair in begun]


def test_truncation_keeps_whole_sentences(load, tokenizer, articles):
    full = load().pairs(tokenizer, split="all")
    cut = load(max_article_tokens=45).pairs(tokenizer, split="all")
    for row, whole, pair in zip(articles, full, cut, strict=True):
        text = tokenizer.decode(pair.clean).removesuffix(" TL;DR:")
        assert row["article"].startswith(text) and text.endswith(".")
        assert len(tasks.text.tokens.encode(tokenizer, text)) <= 45 < len(whole.clean)
    with pytest.raises(CircuitsError, match=r"line 1: the article's first sentence is longer than"):
        load(max_article_tokens=2).pairs(tokenizer, split="all")


@pytest.mark.parametrize("n_ctx", [40, 60, 90, 400])
def test_fit_leaves_room_for_the_summary(load, tokenizer, articles, n_ctx):
    """The most whole sentences that fit, of the pairs and of the examples alike."""
    task, plain = load(fit=True, corruption="filler"), load(corruption="filler")
    texts = {row["article"]: row for row in articles}
    for example in task.examples(tokenizer, 18, split="all", n_ctx=n_ctx):
        assert len(example.prompt) + len(example.target) - 1 <= n_ctx
        text = tokenizer.decode(example.prompt).removesuffix(" TL;DR:")
        (whole,) = [one for one in texts if one.startswith(text)]
        ends = [end for _, end in sentence_ranges(whole)]
        assert len(text) in [len(whole[:end].rstrip()) for end in ends]
        longer = next((whole[:end].rstrip() for end in ends if end > len(text) + 2), None)
        if longer is not None:
            tokens = len(tokenizer(longer + " TL;DR:").input_ids)
            assert tokens + len(example.target) - 1 > n_ctx
    unbound = plain.examples(tokenizer, 18, split="all")
    assert list(task.examples(tokenizer, 18, split="all")) == list(unbound)
    if n_ctx == 400:
        assert list(task.examples(tokenizer, 18, split="all", n_ctx=n_ctx)) == list(unbound)
    pairs = load(fit=True, corruption="filler", skip=True).pairs(
        tokenizer, split="all", n_ctx=n_ctx
    )
    prompts = {one.prompt for one in task.examples(tokenizer, 18, split="all", n_ctx=n_ctx)}
    assert {pair.clean for pair in pairs} <= prompts
    with pytest.raises(CircuitsError, match=r"first sentence is longer than the \d+ tokens that"):
        task.examples(tokenizer, 1, split="all", n_ctx=12)


def test_columns_found_and_named(tmp_path, tokenizer, articles):
    path = tmp_path / "xsum.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["document", "summary", "title", "split"])
        writer.writerows(
            [*row.values(), row["highlights"][:9], "test" if i < 3 else "train"]
            for i, row in enumerate(articles)
        )
    task = tasks.load("summarization", path=path)
    pairs = task.pairs(tokenizer, split="test")
    assert [pair.source for pair in pairs] == [f"xsum.csv, row {i}" for i in (1, 2, 3)]
    titles = tasks.load("summarization", path=path, summary_column="title")
    assert tokenizer.decode([t for (t,) in titles.pairs(tokenizer)[0].answer]) == " Dan Ebert"
    wrong = tasks.load("summarization", path=path, article_column="body")
    with pytest.raises(CircuitsError, match=r"xsum\.csv, row 1: no value in column 'body'"):
        wrong.pairs(tokenizer, split="all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", "not JSON"),
        ('{"article": "A cat sat."}', "no value in column 'highlights'"),
        ('{"article": " ", "highlights": "x"}', "column 'article' is blank"),
        ('{"article": "A cat sat.", "highlights": ""}', "column 'highlights' is blank"),
        ('{"article": "A cat sat.", "highlights": "Dogs"}', "shares a word with the summary"),
    ],
)
def test_a_bad_row_is_named(articles_file, load, tokenizer, line, message):
    with articles_file.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CircuitsError, match=rf"^articles\.jsonl, line 19: .*{message}"):
        load().pairs(tokenizer, split="all")


def test_what_exceeds_the_context_is_named(load, tokenizer):
    task = load()
    need = len(task.pairs(tokenizer, split="all")[0])
    task.pairs(tokenizer, split="all", n_ctx=200)
    message = rf"^articles\.jsonl, line 1: {need} tokens .* holds {need - 1}; set max_article_tok"
    with pytest.raises(CircuitsError, match=message):
        task.pairs(tokenizer, split="all", n_ctx=need - 1)
    with pytest.raises(CircuitsError, match=r"^articles\.jsonl, line 1: .* holds 50"):
        task.examples(tokenizer, split="all", n_ctx=50)
    # The last token of the target is read from the logits and never fed.
    longest = max(
        len(one.prompt) + len(one.target) for one in task.examples(tokenizer, split="all")
    )
    task.examples(tokenizer, split="all", n_ctx=longest - 1)
    with pytest.raises(CircuitsError, match=f"{longest - 1} tokens .* holds {longest - 2}"):
        task.examples(tokenizer, split="all", n_ctx=longest - 2)


def test_swap_needs_another_article(tmp_path, tokenizer, articles):
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps(articles[0]) + "\n" + json.dumps(articles[0]) + "\n")
    with pytest.raises(CircuitsError, match=r"^one\.jsonl, line 1: no other article has \d+ token"):
        tasks.load("summarization", path=path).pairs(tokenizer, split="all")


def test_lend_takes_the_run_that_is_cut_least():
    donor = Prompt(tuple(range(20)), ((0, 4), (4, 7), (7, 12), (12, 20)))
    assert lend([donor], 5, opening=False) == (7, 8, 9, 10, 11)
    assert lend([donor], 4, opening=True) == (0, 1, 2, 3)
    assert lend([donor], 7, opening=False) == (4, 5, 6, 7, 8, 9, 10)  # of 8, from 4 to 12
    assert lend([donor, Prompt((9, 8, 7, 6), ((0, 1), (1, 4)))], 3, opening=False) == (4, 5, 6)
    assert lend([donor], 20, opening=False) == tuple(range(20))
    with pytest.raises(CircuitsError, match="no other article has 21 tokens"):
        lend([donor], 21, opening=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "give either path="),
        ({"dataset": "xsum"}, "give either path="),
        ({"path": "none.jsonl"}, r"none\.jsonl: no such file"),
        ({"corruption": "typo"}, "unknown corruption 'typo'; it is one of: swap, filler, shuffle"),
        ({"salient": 0}, "salient=0: it must be a whole number, at least 1"),
        ({"salient": None}, "salient=None: it must be a whole number"),
        ({"max_article_tokens": "9"}, "max_article_tokens='9': it must be a whole number"),
    ],
)
def test_bad_options(unchecked, load, options, message):
    with pytest.raises(CircuitsError, match=message):
        load(**options)


def test_what_the_tokenizer_cannot_do_is_said(unchecked, load, tokenizer):
    with pytest.raises(CircuitsError, match=r"line \d+: filler ' xylophone' is \d+ tokens"):
        load(corruption="filler", filler=" xylophone").pairs(tokenizer, 1)

    class Endless:
        eos_token_id = None

    with pytest.raises(CircuitsError, match="no end-of-text token"):
        load().examples(Endless(), 1)


@pytest.fixture
def folder(tmp_path, articles, monkeypatch):
    """A folder that `datasets.load_dataset` reads as a dataset with two splits."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "news"
    path.mkdir()
    for split, rows in (("train", articles[:12]), ("test", articles[12:])):
        (path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_dataset_with_its_own_splits(folder, tokenizer, articles):
    task = tasks.load("summarization", dataset=folder)
    pairs = task.pairs(tokenizer, split="test")
    assert [pair.source for pair in pairs] == [f"{folder}, test row {i}" for i in range(1, 7)]
    assert tokenizer.decode(pairs[0].clean) == articles[12]["article"] + " TL;DR:"
    assert len(task.pairs(tokenizer, split="all")) == 18
    with pytest.raises(CircuitsError, match=r"no split 'validation'; it has: train, test"):
        task.pairs(tokenizer, split="validation")


def test_a_known_dataset_is_asked_for_by_its_hub_name(folder, tokenizer, monkeypatch):
    import datasets

    asked = []
    real = datasets.load_dataset

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        return real(folder)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = tasks.load("summarization", dataset="cnn_dailymail")
    assert task.pairs(tokenizer, 1)[0].source.startswith("cnn_dailymail, train row ")
    task.pairs(tokenizer, 2)
    assert asked == [(("abisee/cnn_dailymail", "3.0.0"), {"revision": None})]
    assert set(KNOWN_DATASETS) == {"cnn_dailymail", "xsum", "multi_news", "samsum"}
    for name in ("abisee/cnn_dailymail", "Abisee/CNN_DailyMail"):  # the hub's ids have no case
        task = tasks.load("summarization", dataset=name, config="2.0.0")
        assert task.pairs(tokenizer, 1)[0].source.startswith(f"{name}, train row ")
        assert asked[-1] == (("abisee/cnn_dailymail", "2.0.0"), {"revision": None})
        assert task.files == ()


def test_a_dataset_of_several_configurations(tmp_path, tokenizer, articles, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder, listed = tmp_path / "news", ""
    for config, rows in (("en", articles[:3]), ("de", articles[3:8])):
        (folder / config).mkdir(parents=True)
        file = folder / config / "test.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        listed += f"- config_name: {config}\n  data_files:\n  - {{split: test, path: {config}/*}}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}---\n")
    options = {"dataset": str(folder), "corruption": "filler"}
    for config, count in (("en", 3), ("de", 5)):
        task = tasks.load("summarization", config=config, **options)
        assert len(task.pairs(tokenizer, split="test")) == count
    for given in ({}, {"config": "fr"}):
        with pytest.raises(CircuitsError, match=r"\['en', 'de'\].*; name one with .*`config`") as e:
            tasks.load("summarization", **given, **options).pairs(tokenizer, split="test")
        assert "\n" not in str(e.value)
    with pytest.raises(CircuitsError, match="config: a local file has no configurations"):
        tasks.load("summarization", path=file, config="en")


def test_a_bare_name_is_said_to_lack_its_namespace(tokenizer, monkeypatch):
    """With datasets 5 it ends in a malformed `hf://` address, a ValueError."""
    import datasets

    def refuse(*_, **__):
        raise ValueError("Invalid HF URI 'hf://datasets/my_news': expected namespace/name")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    task = tasks.load("summarization", dataset="my_news")
    with pytest.raises(CircuitsError, match=r"^dataset 'my_news' .*; an id of the hub is w"):
        task.pairs(tokenizer, 1)


def test_a_dataset_out_of_reach_is_one_clear_line(tokenizer, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    task = tasks.load("summarization", dataset="xsum")
    with pytest.raises(CircuitsError, match=r"^dataset 'xsum' cannot be loaded \(.*\); known") as e:
        task.pairs(tokenizer, 1)
    assert "\n" not in str(e.value)


def test_options_are_frozen(load):
    task = load()
    with pytest.raises(AttributeError):
        task.salient = 3
    assert replace(task, salient=3).salient == 3


def test_the_files_that_are_read(load, articles_file, tmp_path):
    assert load().files == (articles_file,)
    (tmp_path / "folder" / "part").mkdir(parents=True)
    files = [tmp_path / "folder" / "a.csv", tmp_path / "folder" / "part" / "b.csv"]
    for file in files:
        file.touch()
    assert load(path=None, dataset=str(tmp_path / "folder")).files == tuple(files)
    assert load(path=None, dataset="xsum").files == ()


def test_a_local_folder_that_cannot_be_read_is_named_with_the_cause(tmp_path, tokenizer):
    (tmp_path / "test.jsonl").write_text(json.dumps(ROW) + "\n{\n")
    task = tasks.load("summarization", dataset=str(tmp_path))
    with pytest.raises(CircuitsError, match=r"local folder cannot be read \(JSON parse.* row 1"):
        task.pairs(tokenizer, split="test")
    (tmp_path / "test.jsonl").write_text(json.dumps(ROW))
    (tmp_path / "train.jsonl").write_text(json.dumps({"other": "columns"}))
    with pytest.raises(CircuitsError, match=r"the local folder cannot be read \(.*cast"):
        task.pairs(tokenizer, split="test")
    for name in ("./none", str(tmp_path / "none")):
        with pytest.raises(CircuitsError, match=f"^dataset '{name}': no such folder$"):
            tasks.load("summarization", dataset=name).pairs(tokenizer, split="test")


ROW = {"article": "Mary went to the store. John said no.", "summary": "John said no."}
