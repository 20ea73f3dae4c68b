"""Every Python example of the documents runs.

The examples of one file are run in order, in one namespace and an empty folder. What a reader has
before the first line is given: `model` (a tiny GPT-2 of random weights), its `tokenizer`, `pairs`
and `others` of indirect objects, and files with rows under the names that the examples read.
Numbers of pairs are cut to six, since the example is tested and not its figures.

An example that cannot run without a network says why above itself, where the reader sees the
source: `<!-- not run: needs gpt2 from the hub -->`.
"""

import json
import re
import shlex
from pathlib import Path

import pytest
import transformers
import typer
from conftest import randomised
from mib_rows import ioi, write
from tokenizers_of_texts import of_words

import tasks
from circuits.cli.app import app
from circuits.graph import Circuit
from circuits.metrics import METRICS
from circuits.models import HookedModel

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("tasks/**/*.md")])]
EXAMPLE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```python\n(?P<source>.*?)```", re.S
)
COMMAND = re.compile(r"(?:^|`| {4})circuits ([a-z]+)([^`\n]*)", re.M)
BLOCK = re.compile(r"^ *```(?:bash|sh)?\n(.*?)^ *```|((?:^ {4}.*\n)+)", re.M | re.S)
NOT_RUN = 1
LAYERS = {"patching.md": 7}  # it names heads of layer 5
PAIRS = 6


def examples(document):
    """(first line, source, why it is not run) of each example."""
    text = document.read_text(encoding="utf-8")
    for found in EXAMPLE.finditer(text):
        yield text.count("\n", 0, found.start("source")), found["source"], found["reason"]


WITH_EXAMPLES = [one for one in DOCUMENTS if any(examples(one))]


@pytest.fixture(scope="module")
def words():
    return of_words()


def given(words, layers):
    """The names that the examples start from."""
    config = transformers.GPT2Config(
        vocab_size=len(words), n_embd=32, n_layer=layers, n_head=4, n_positions=128
    )
    task = tasks.load("ioi")
    return {
        "model": HookedModel(randomised(config), words, "tiny"),
        "tokenizer": words,
        "pairs": task.pairs(words, n=PAIRS, split="train"),
        "others": task.pairs(words, n=PAIRS, split="test"),
    }


def write_files(folder, words):
    """The files that examples read: tables of pairs, and articles with their summaries."""
    one, other = (words(f" {name}")["input_ids"] for name in ("Paris", "Rome"))
    texts = {"clean": "{:02d} is", "corrupted": "{:02d} was"}
    ids = {"correct_idx": one[0], "incorrect_idx": other[0]}
    tables = {
        "pairs.csv": texts | {"correct": " Paris", "incorrect": " Rome"},
        "ioi.csv": {"clean": texts["clean"], "corrupted_hard": texts["corrupted"], **ids},
        "capitals.csv": {"country": "{:02d}", "capital": "{:02d}"},
        "hypernymy.csv": texts | {"answers_idx": one[0], "corrupted_answers_idx": other[0]},
    }
    for name, cells in tables.items():
        lines = [",".join(str(cell).format(row) for cell in cells.values()) for row in range(40)]
        (folder / name).write_text("\n".join([",".join(cells), *lines]))
    articles = [
        {
            "article": f"It rained in town {i}. The mayor of town {i} resigned.",
            "highlights": f"The mayor of town {i} resigned.",
        }
        for i in range(40)
    ]
    (folder / "articles.jsonl").write_text("\n".join(map(json.dumps, articles)))
    names = [("Anna", "Mark"), ("Lucy", "Adam"), ("Emma", "John"), ("Mary", "Eric")]
    write(
        folder / "mib_ioi.jsonl",
        [
            ioi(*pair, "Paul", split=split, place=place)
            for split in ("train", "validation", "test")
            for pair in names
            for place in ("shop", "park")
        ],
    )


def write_circuit(folder, model):
    """The circuit that a reader has found on the command line by then."""
    (folder / "ioi").mkdir()
    Circuit.full(model.layout).save(folder / "ioi" / "circuit.json")


@pytest.mark.parametrize("document", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.exhaustive_but("README.md", "docs/tasks.md", "docs/tour.md")
def test_examples_run(document, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path, words)
    names = given(words, LAYERS.get(document.name, 2))
    write_circuit(tmp_path, names["model"])
    monkeypatch.setattr("circuits.metrics.METRICS", dict(METRICS))  # a page adds one
    for line, source, reason in examples(document):
        if reason is None:
            short = re.sub(r"\bn=(\d+)", lambda n: f"n={min(PAIRS, int(n[1]))}", source)
            exec(compile("\n" * line + short, str(document), "exec"), names)


def test_commands_name_verbs_and_flags_that_there_are():
    """In blocks and in code within sentences; a verb that is none counts where it has flags."""
    verbs = typer.main.get_command(app).commands
    flags = {
        name: {flag for one in verb.params for flag in (*one.opts, *one.secondary_opts)}
        for name, verb in verbs.items()
    }
    told = []
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        for verb, rest in COMMAND.findall(text):
            given = re.findall(r"(?<=\s)--[a-z-]+", rest.partition(" #")[0])
            told += [(document.name, verb, flag) for flag in given]
    unknown = [one for one in told if one[2] not in {"--help", *flags.get(one[1], ())}]
    assert not unknown and len(told) > 150


def test_the_command_line_takes_every_command_with_its_values():
    """As far as it reads them before it starts: types, choices, what goes together by its form."""
    verbs = typer.main.get_command(app).commands
    read = []
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        text = re.sub(EXAMPLE, "", document.read_text(encoding="utf-8"))
        for fenced, indented in BLOCK.findall(text):
            for line in (fenced or indented).replace("\\\n", " ").splitlines():
                command = re.match(r"[ $]*circuits ([a-z]+)\b(.*)", line)
                if command and command[1] in verbs:  # else a line of what a command says
                    verbs[command[1]].make_context(
                        command[1], shlex.split(command[2], comments=True)
                    )
                    read.append(line)
    assert len(read) > 60


def test_examples_that_are_not_run_are_few_and_say_why():
    reasons = [reason for document in DOCUMENTS for *_, reason in examples(document) if reason]
    assert len(reasons) == NOT_RUN
    fences = [
        fence
        for document in DOCUMENTS
        for fence in re.findall(r"^```(\w+)", document.read_text(encoding="utf-8"), re.M)
    ]
    assert fences.count("python") == sum(len([*examples(one)]) for one in WITH_EXAMPLES) > 10
    assert not {"py", "python3", "pycon"} & set(fences)
