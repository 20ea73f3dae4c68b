"""Options are declared once: Python, recipes and flags have the same defaults, values and words."""

import importlib
import inspect
import re
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import Annotated, get_args, get_origin

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from circuits.attribution.quadrature import RULES, STAGGERED
from circuits.cli.app import app
from circuits.cli.flags import Given, Without
from circuits.errors import CircuitsError
from circuits.evaluation import PERTURBATIONS
from circuits.graph.network import FORMS
from circuits.metrics import METRICS
from circuits.options.attribution import MetricOptions
from circuits.options.choices import GraphForm, NetworkForm, Perturbation, Quadrature
from circuits.options.circuit import SelectionOptions
from circuits.options.declared import Options, hints, literals, sentence
from circuits.pipeline.recipe import Recipe, parse

SIMPLE = {"name": "run", "model": "newsroom-gpt2", "task": {"name": "newsroom"}}

# Flags of a verb that share a field's name and are not made of it, and why.
OF_THE_VERB = {
    ("select", "size"): "in place of --fraction, so none by default",
    ("select", "fraction"): "in place of --size, so none by default",
    ("evaluate", "model"): "the scores say it",
    ("evaluate", "task"): "the scores say it",
    ("evaluate", "split"): "by default one not scored on",
    ("compare", "task"): "only with models",
    ("compare", "split"): "by default one not scored on",
    ("plan", "task"): "in place of --length",
    ("plan", "steps"): "of any job",
    ("diff", "model"): "several",
    ("diff", "lora"): "a folder",
    ("convert", "model"): "in place of --d-model",
    ("explore", "model"): "the run says it",
    ("explore", "task"): "only without a run",
    ("export", "ablation"): "what weights can hold",
    ("patch", "metric"): "several",
    ("search", "method"): "of removing, not of scoring",
    ("learn", "model"): "the scores say it",
    ("learn", "task"): "the scores say it",
    ("learn", "split"): "that of the scores",
    ("ensemble", "size"): "none by default: then no weights are chosen",
    ("ensemble", "draws"): "only with --size",
    ("ensemble", "choose"): "only with --size",
    ("ensemble", "metric"): "only with --size",
    ("ensemble", "split"): "that of the scores",
    ("ensemble", "strategy"): "only with --size",
    ("submission", "strategy"): "none by default: then scores are written",
    ("submission", "ranking"): "only with --strategy",
    ("discover", "level"): "of scores",
    ("discover", "size"): "none by default: then no circuit is written",
}

# Fields of one name with several defaults or types: how many, and of what.
SEVERAL = {
    "ablation": (3, "of sources, of heads, of gates"),
    "batch_size": (2, "pairs that fit, examples of a training step"),
    "data": (2, "a path among flags, text in recipes"),
    "draws": (4, "of weights, of null models, of layers, of sets of neurons"),
    "engine": (2, "a word among flags, its settings in Python and recipes"),
    "layers": (2, "how many, which"),
    "learning_rate": (2, "of weights, of gates"),
    "level": (3, "of what is removed alone, of sets, of a search"),
    "n_examples": (2, "in groups of eight at least, of summaries"),
    "n_pairs": (2, "sets need two"),
    "n_resamples": (2, "of examples compared, of examples scored"),
    "objective": (2, "of a ratio, of a mask"),
    "pairs": (2, "a recipe's section, a number"),
    "positive_ratios": (2, "a whole curve, a trial"),
    "ranking": (2, "by scores alone, or by pairs"),
    "seed": (2, "PyTorch's is below 2**31"),
    "size": (2, "of a circuit learned, of one before pruning"),
    "sizes": (2, "shares of the edges, numbers of neurons"),
    "steps": (2, "on a path, of an optimizer"),
    "task": (2, "a recipe's section, a name"),
    "validation": (2, "a fine-tuning has some examples, a comparison of LoRAs may have none"),
}


def declarations(kind=Options):
    """Every dataclass of options in the packages."""
    for one in kind.__subclasses__():
        if one.__module__.startswith("circuits."):
            yield one
        yield from declarations(one)


def plain_fields(kind):
    """The fields that are no options themselves."""
    for name, hint in hints(kind).items():
        parts = (hint, *get_args(hint))
        if not any(isinstance(part, type) and issubclass(part, Options) for part in parts):
            yield name


VERBS = {command.callback.__name__: command.callback for command in app.registered_commands}


def as_written(verb):
    """The parameters of a verb before flags were made of them."""
    function = getattr(importlib.import_module(f"circuits.cli.{verb}"), verb)
    return inspect.signature(function, eval_str=True).parameters.values()


def declared(verb):
    """What flags of a verb are made of, by their names in Python: (class, whether only given)."""
    found = {}
    for parameter in as_written(verb):
        kind, *notes = (
            get_args(parameter.annotation)
            if get_origin(parameter.annotation) is Annotated
            else (parameter.annotation,)
        )
        partly = get_origin(kind) is Given
        kind = get_args(kind)[0] if partly else kind
        if isinstance(kind, type) and issubclass(kind, Options):
            left_out = {name for note in notes if isinstance(note, Without) for name in note.names}
            for name in {*plain_fields(kind)} - left_out:
                found.setdefault(name, []).append((kind, partly))
    return found


def flags(verb):
    """The flags of a verb that Typer reads, by their names in Python."""
    for name, parameter in inspect.signature(VERBS[verb]).parameters.items():
        option = next(one for one in get_args(parameter.annotation)[1:])
        if isinstance(option, OptionInfo):
            yield name, parameter, option


def words(hint):
    """What the help names as a field's values."""
    if get_origin(hint) is Annotated:
        return words(get_args(hint)[0])
    return [*(["int"] if int in get_args(hint) and literals(hint) else []), *literals(hint)]


@pytest.mark.parametrize("verb", VERBS)
def test_a_flag_says_what_its_field_says(verb):
    made_of = declared(verb)
    every = {name for kind in declarations() for name in plain_fields(kind)}
    seen = set()
    for name, parameter, option in flags(verb):
        if name not in made_of:
            assert name not in every or (verb, name) in OF_THE_VERB, name
            continue
        seen.add(name)
        known = []
        for kind, partly in made_of[name]:
            default = next(field.default for field in fields(kind) if field.name == name)
            known += [word for word in words(hints(kind)[name]) if word not in known]
            assert sentence(kind, name) in option.help, name
            if default is MISSING and not partly:
                assert parameter.default is inspect.Parameter.empty, name
            elif partly or isinstance(default, tuple) or default is MISSING:
                assert parameter.default is None, name  # the dataclass has it, and fills it in
            else:
                assert parameter.default == default, name
        if known:
            assert option.metavar.removesuffix(",...").split("|") == known, name
    assert seen == {*made_of}


def test_exemptions_are_of_flags_that_there_are():
    for verb, name in OF_THE_VERB:
        assert name in {flag for flag, *_ in flags(verb)} - {*declared(verb)}, (verb, name)


def test_a_field_of_one_name_has_one_default_and_one_type():
    found = {}
    for kind in declarations():
        for field in fields(kind):
            found.setdefault(field.name, set()).add(
                (repr(field.default), str(hints(kind)[field.name]))
            )
    several = {name: len(variants) for name, variants in found.items() if len(variants) > 1}
    assert several == {name: n for name, (n, _) in SEVERAL.items()}


def test_every_field_has_a_sentence():
    kinds = [*declarations()]
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
    assert get_args(NetworkForm) == tuple(FORMS)
    assert get_args(GraphForm) == ("eap-ig", *FORMS)


def test_help_names_every_metric():
    told = sentence(MetricOptions, "metric")
    assert {*re.findall(r"[a-z]+(?:-[a-z]+)+|accuracy", told)} == {*METRICS}


def test_every_verb_fits_a_line_of_the_list():
    listed = CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2]
    assert listed.count("\n") > len(VERBS) and "..." not in listed


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
