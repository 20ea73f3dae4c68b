"""Options are declared once: Python, recipes and flags have the same defaults, values and words."""

import inspect
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import get_args

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from circuits.attribution.quadrature import RULES, STAGGERED
from circuits.cli.app import app
from circuits.errors import CircuitsError
from circuits.evaluation import PERTURBATIONS
from circuits.options.choices import Perturbation, Quadrature
from circuits.options.circuit import SelectionOptions
from circuits.options.declared import Options, hints, literals, sentence
from circuits.pipeline.recipe import Recipe, parse

SIMPLE = {"name": "run", "model": "newsroom-gpt2", "task": {"name": "newsroom"}}

# Names that mean different things in different places, or nothing by default: (where, name).
OTHERWISE = {
    ("select", "fraction"),  # in place of --size, so none by default
    ("evaluate", "model"),  # the scores say it
    ("evaluate", "task"),
    ("compare", "task"),
    ("plan", "task"),
    ("plan", "steps"),  # of any job
    ("diff", "model"),  # several
    ("convert", "model"),
    ("patch", "metric"),  # several
    ("search", "method"),  # of removing, not of scoring
    ("discover", "level"),  # of scores; acdc's and minimality's are others
}
# Fields of one name and several subjects.
SEVERAL = {"level", "steps", "batch_size", "n_resamples", "ranking", "n_pairs"}


def declarations(kind=Options):
    """Every dataclass of options."""
    for one in kind.__subclasses__():
        yield one
        yield from declarations(one)


# An engine is a word among flags, and its settings in Python and recipes.
OF_OTHER_WORDS = {"ablation", "criterion", "engine"}


def declared():
    """Default and words of every field, by its name; a set, as several subjects may share one."""
    found = {}
    for kind in declarations():
        for field in fields(kind):
            words = frozenset(literals(hints(kind)[field.name]))
            found.setdefault(field.name, []).append((field.default, words))
    return found


def flags(verb):
    """The flags of a verb that Typer reads, by their names in Python."""
    for name, parameter in inspect.signature(verb).parameters.items():
        option = next(o for o in get_args(parameter.annotation)[1:])
        if isinstance(option, OptionInfo):
            yield name, parameter, option


VERBS = {command.callback.__name__: command.callback for command in app.registered_commands}


def test_no_flag_states_another_default_or_other_words_than_a_field():
    known, seen = declared(), 0
    for verb, function in VERBS.items():
        for name, parameter, option in flags(function):
            if name not in known or (verb, name) in OTHERWISE:
                continue
            defaults = [default for default, _ in known[name]]
            given = None if parameter.default is inspect.Parameter.empty else parameter.default
            assert any(given in (default, None) for default in defaults), (verb, name)
            words = frozenset((option.metavar or "").removesuffix(",...").split("|")) - {"int"}
            every = frozenset().union(*(words for _, words in known[name]))
            assert not (every and option.metavar) or words <= every | {""}, (verb, name)
            seen += 1
    assert seen > 100


def test_a_field_of_one_name_has_one_default_and_one_set_of_words():
    for name, found in declared().items():
        if name not in SEVERAL:
            assert len({str(default) for default, _ in found if default is not MISSING}) <= 2, name
            assert len({words for _, words in found}) == 1 or name in OF_OTHER_WORDS, name


def test_every_field_has_a_sentence():
    kinds = [kind for kind in declarations() if kind.__module__.startswith("circuits.")]
    assert Recipe in kinds and len(kinds) > 20
    for kind in kinds:
        for field in fields(kind):
            assert re.match(r"[A-Z]", sentence(kind, field.name)), (kind, field.name)


def test_a_field_without_a_sentence_is_found():
    class Silent(Options):
        """Nothing under Attributes."""

    with pytest.raises(TypeError, match=r"Silent\.volume has no sentence"):
        sentence(Silent, "volume")


def test_literals_name_what_the_registries_hold():
    assert set(get_args(Quadrature)) == {*RULES, STAGGERED}
    assert set(get_args(Perturbation)) == set(PERTURBATIONS)


def test_a_mistyped_word_is_refused_alike_in_python_recipe_and_command():
    line = "unknown strategy 'luck'; known: top-n, widest-path, greedy, stable"
    made = object.__new__(SelectionOptions)  # past the check of types, which users do not run
    vars(made).update({**vars(SelectionOptions()), "strategy": "luck"})
    with pytest.raises(CircuitsError, match=f"^{re.escape(line)}$"):
        made.__post_init__()
    with pytest.raises(CircuitsError, match=f"^here: circuit: {re.escape(line)}$"):
        parse({**SIMPLE, "circuit": {"strategy": "luck"}}, "here")
    told = CliRunner().invoke(app, ["select", "--scores", "none", "--strategy", "luck"])
    assert isinstance(told.exception, CircuitsError) and str(told.exception) == line


def test_an_unknown_key_and_a_number_out_of_bounds_are_refused_by_name():
    with pytest.raises(
        CircuitsError, match=r"^here: circuit\.volume: no such key; known: strategy"
    ):
        parse({**SIMPLE, "circuit": {"volume": 11}}, "here")
    with pytest.raises(
        CircuitsError, match=r"^here: circuit: fraction 2\.0: it must be above 0 and"
    ):
        parse({**SIMPLE, "circuit": {"fraction": 2}}, "here")


def test_help_does_not_import_torch_or_pydantic():
    code = (
        "import sys\nfrom circuits.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'pydantic', 'transformers'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
