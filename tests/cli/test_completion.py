"""The version, and what a shell offers for a value that is half typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli.inside import circuits as run

import circuits
from circuits.cli.completion import _MODELS
from circuits.models.checkpoints import EMBEDDED
from circuits.models.gguf.sources import PACKAGED
from circuits.pipeline.recipe import shipped

MAIN = "import sys; sys.argv = ['circuits']; from circuits.cli import main; main()"


def offered(*words):
    """What bash is given where the last of these words is being typed."""
    line = " ".join(["circuits", *words])
    place = str(len(words))
    environment = {
        **os.environ,
        "_CIRCUITS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": place,
        "PYTHONPATH": str(Path(circuits.__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_the_version_is_said():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"circuits {circuits.__version__}\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("pat",), ["patch"]),
        (("discover", "--task", "name"), ["name-copying"]),
        (("discover", "--model", "s"), ["smollm2-135m"]),
        (("discover", "--quadrature", "gauss"), ["gauss-legendre"]),
        (("run", "quick"), ["quickstart"]),
        (("tasks", "io"), ["ioi"]),
    ],
    ids=lambda value: value[-1],
)
@pytest.mark.exhaustive_but("name-name-copying")
def test_words_are_offered(words, expected):
    assert offered(*words) == expected


def test_models_and_recipes_are_those_that_there_are():
    assert {*EMBEDDED, *PACKAGED} == set(_MODELS)
    from circuits.cli.completion import recipes

    assert tuple(recipes()) == shipped()
