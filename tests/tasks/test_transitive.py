"""The transitive property problem, against a solver that follows the links of the text."""

import importlib
import re
import types

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import tasks
from circuits.options.tuning import FinetuneSettings
from circuits.tuning.finetune import finetune
from tasks.builtin.transitive import TEMPLATES, Transitive, read_nouns
from tasks.builtin.transitive import nouns as noun_lists
from tasks.errors import CircuitsError
from tasks.task import TrainableTask
from tasks.text.lexicon import of_split

SPLITS = ["train", "validation", "test"]


def links(text):
    """{"dog": "cat", "cat": "bird"} and the noun that is asked about."""
    text = text.replace("It is true that", "")
    *facts, asked = re.findall(r"(\w+) is\b(?: (\w+))?", text)
    assert not asked[1]
    return dict(facts), asked[0]


def reached(text):
    facts, noun = links(text)
    path = [noun]
    while path[-1] in facts:
        path.append(facts[path[-1]])
    return path


@pytest.mark.parametrize("template", [None, *range(1, 8)])
def test_the_answer_follows_by_two_links(word_tokenizer, template):
    for corruption in ("exchange", "replace", "unlink"):
        task = Transitive(corruption, template=template)
        for prompts in task.prompts(word_tokenizer, 40, split="test"):
            c, b, a = prompts.names
            assert reached(prompts.clean) == [a, b, c]
            assert (prompts.answer, prompts.wrong) == (f" {c}", f" {b}")
            path = reached(prompts.corrupted)
            if corruption == "exchange":
                assert path == [a, c, b]
            elif corruption == "replace":
                assert path[:2] == [a, b] and len(path) == 3 and c not in prompts.corrupted.split()
            else:
                assert path == [a, b] and re.search(rf"\b{c}\b", prompts.corrupted)


def test_tokens_that_a_corruption_changes(word_tokenizer):
    changed = {
        corruption: {
            sum(end - start for start, end in pair.spans)
            for pair in Transitive(corruption).pairs(word_tokenizer, 50)
        }
        for corruption in ("exchange", "replace", "unlink")
    }
    assert changed == {"exchange": {3}, "replace": {1}, "unlink": {1}}


def test_all_templates_occur_and_one_can_be_chosen(word_tokenizer):
    assert len(TEMPLATES) == 7
    shapes = [
        {
            re.sub(rf"\b({'|'.join(prompts.names)})\b", "_", prompts.clean)
            for prompts in Transitive(template=template).prompts(word_tokenizer, 80)
        }
        for template in (None, *range(1, 8))
    ]
    assert len(shapes[0]) == 7 and shapes[0] == set().union(*shapes[1:])
    assert all(len(shape) == 1 for shape in shapes[1:])
    # At the same positions, so that patching by position can be averaged.
    pairs = Transitive(template=1).pairs(word_tokenizer, 50)
    assert {pair.spans for pair in pairs} == {((2, 3), (4, 5), (6, 7))}


def test_splits_share_no_noun(word_tokenizer):
    used = {
        split: {
            noun
            for prompts in Transitive("replace").prompts(word_tokenizer, 300, split=split)
            for text in (prompts.clean, prompts.corrupted)
            for noun in {*links(text)[0], *links(text)[0].values()}
        }
        for split in SPLITS
    }
    for split in SPLITS:
        assert used[split] <= set(of_split(read_nouns("own"), split))
    assert not used["train"] & used["test"] and not used["train"] & used["validation"]
    assert not used["validation"] & used["test"]
    assert len(used["train"]) > 300


@pytest.mark.exhaustive
def test_the_evaluation_sets_of_the_original(word_tokenizer):
    task = Transitive()
    assert len(task.pairs(word_tokenizer, split="validation")) == 1150
    test = task.pairs(word_tokenizer, split="test")
    assert len(test) == len({pair.clean for pair in test}) == 3000
    assert test.pairs == task.pairs(word_tokenizer, 3000, split="test").pairs
    with pytest.raises(CircuitsError, match=r"how many pairs of the split 'train'; .* 1150 of val"):
        task.pairs(word_tokenizer)


def test_a_fraction_of_the_training_data_is_inside_a_larger_one(word_tokenizer):
    assert isinstance(tasks.load("transitive"), TrainableTask)
    made = {
        share: Transitive(fraction=share).examples(word_tokenizer, 200, seed=5)
        for share in (0.1, 0.3, 0.5, 1.0)
    }
    assert [len(examples) for examples in made.values()] == [20, 60, 100, 200]
    for examples in made.values():
        assert examples == made[1.0][: len(examples)]
    assert len(Transitive(fraction=0.1).examples(word_tokenizer, 50, split="validation")) == 50
    assert len(Transitive(fraction=0.001).examples(word_tokenizer, 50)) == 1
    assert len(Transitive(fraction=0.1).pairs(word_tokenizer, 50)) == 50


def test_what_is_trained_on(word_tokenizer):
    pairs = Transitive().pairs(word_tokenizer, 10)
    answers = Transitive().examples(word_tokenizer, 10)
    texts = Transitive(loss="text").examples(word_tokenizer, 10)
    for pair, answer, text in zip(pairs, answers, texts, strict=True):
        assert (answer.prompt, answer.target) == (pair.clean, pair.answer[0])
        assert len(text.prompt) == 1
        assert text.prompt + text.target == pair.clean + pair.answer[0]
        assert answer.source == text.source == pair.source


def test_a_model_learns_it(word_tokenizer, tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(word_tokenizer),
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=32,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    examples = Transitive(template=1, fraction=0.5).examples(word_tokenizer, 128)
    settings = FinetuneSettings(steps=30, learning_rate=1e-2, batch_size=32)
    result = finetune(model, examples, tmp_path / "run", settings=settings, progress=False)
    losses = [step.loss for step in result.log.steps]
    assert losses[-1] < 0.7 * losses[0]


def test_the_own_nouns():
    nouns = read_nouns("own")
    assert len(nouns) == len(set(nouns)) >= 300
    assert all(re.fullmatch(r"[a-z]{3,}", noun) for noun in nouns)
    in_templates = {word for template in TEMPLATES for word in re.findall(r"\w+", template.lower())}
    assert not in_templates & set(nouns)


def test_nouns_of_a_file(word_tokenizer, tmp_path):
    path = tmp_path / "nouns.txt"
    path.write_text("\n".join(of_split(read_nouns("own"), "test")[:5]) + "\n\n  dog \ndog\n")
    assert read_nouns(path)[-1] == "dog" and len(read_nouns(path)) == 6
    task = tasks.load("transitive", nouns=str(path))
    assert task.files == (path,) and Transitive().files == ()
    used = {name for p in task.prompts(word_tokenizer, 100, split="test") for name in p.names}
    assert used == set(of_split(read_nouns(path), "test"))
    with pytest.raises(
        CircuitsError, match=rf"^transitive: of the nouns '{path}' in the split 'validation': 0 of"
    ):
        task.pairs(word_tokenizer, 3, split="validation")


def test_too_few_single_tokens_are_counted(tokenizer):
    of = len(of_split(read_nouns("own"), "test"))
    with pytest.raises(CircuitsError, match=rf"'own' in the split 'test': \d of {of} are single t"):
        Transitive().pairs(tokenizer, 3, split="test")


def test_only_nouns_of_one_token_are_drawn(word_tokenizer, tmp_path):
    known = of_split(read_nouns("own"), "test")[:6]
    path = tmp_path / "nouns.txt"
    path.write_text("\n".join([*known, *(f"{noun}qx" for noun in read_nouns("own"))]))
    prompts = Transitive(nouns=path).prompts(word_tokenizer, 60, split="test")
    assert {name for each in prompts for name in each.names} == set(known)


def test_wordnet(monkeypatch, word_tokenizer):
    """nltk's interface, with a WordNet of our own behind it."""
    lemmas = [*read_nouns("own"), "New_York", "Paris", "ad_hoc", "x-ray", "café", "at", "dog"]

    def all_lemma_names(pos):
        assert pos == "n"
        return iter(lemmas)

    corpus = types.SimpleNamespace(wordnet=types.SimpleNamespace(all_lemma_names=all_lemma_names))
    real = importlib.import_module
    monkeypatch.setattr(
        noun_lists.importlib,
        "import_module",
        lambda name: corpus if name == "nltk.corpus" else real(name),
    )
    noun_lists._wordnet.cache_clear()
    try:
        assert read_nouns("wordnet") == tuple(sorted(read_nouns("own")))
        assert len(Transitive(nouns="wordnet").pairs(word_tokenizer, 5)) == 5
    finally:
        noun_lists._wordnet.cache_clear()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ImportError, "need nltk; install it"),
        (LookupError, r"need nltk's WordNet, which is not on this machine; fetch it \(python -m"),
    ],
)
def test_without_wordnet(monkeypatch, word_tokenizer, error, message):
    def fail(name):
        raise error(name)

    noun_lists._wordnet.cache_clear()
    monkeypatch.setattr(noun_lists.importlib, "import_module", fail)
    with pytest.raises(CircuitsError, match=message):
        Transitive(nouns="wordnet").pairs(word_tokenizer, 5)


def test_refusals(tmp_path):
    for options, message in [
        ({"template": 8}, "no template 8; they are 1 to 7"),
        ({"template": 0}, "no template 0"),
        ({"fraction": 0.0}, r"fraction 0\.0; it must be above 0 and at most 1"),
        ({"fraction": 1.5}, r"fraction 1\.5; it must"),
        ({"loss": "all"}, "unknown loss 'all'; known: answer, text"),
    ]:
        with pytest.raises(CircuitsError, match=f"^transitive: {message}"):
            Transitive(**options)
    (tmp_path / "two.txt").write_text("dog\npolar bear\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    for name, message in [
        ("two.txt", r"^two\.txt, line 2: 'polar bear' is more than one word"),
        ("empty.txt", "the file has no nouns"),
        ("latin.txt", "not UTF-8 text"),
        ("none.txt", r"cannot be read \(No such file.* nouns are 'own', 'wordnet' or a text file"),
    ]:
        with pytest.raises(CircuitsError, match=message):
            read_nouns(tmp_path / name)
