"""A run folder is claimed by one recipe and held by one process."""

import pytest

from circuits.errors import CircuitsError
from circuits.pipeline import load_recipe
from circuits.pipeline.store import Store
from circuits.runtime.files import working_in


def test_a_run_killed_at_its_first_file_goes_on(tmp_path):
    (tmp_path / ".recipe.yaml.k3_llme2").mkdir()
    (tmp_path / ".lock").touch()
    with Store.open(tmp_path, load_recipe("quickstart")):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "recipe.yaml"]


def test_a_run_folder_in_use_is_refused(tmp_path):
    recipe = load_recipe("quickstart")
    with (
        Store.open(tmp_path, recipe),
        pytest.raises(CircuitsError, match="another process works in this folder"),
        Store.open(tmp_path, recipe),
    ):
        pass
    with Store.open(tmp_path, recipe), working_in(tmp_path / "checkpoints", "x"):
        pass


def test_another_recipe_is_refused_by_the_keys_that_differ(tmp_path):
    with Store.open(tmp_path, load_recipe("quickstart", ["lora.steps=100"])):
        pass
    changed = load_recipe("quickstart", ["lora.steps=50", "seed=7"])
    with (
        pytest.raises(
            CircuitsError,
            match=r"lora\.steps was 100, now 50, seed was 0, now 7; choose another --out",
        ),
        Store.open(tmp_path, changed),
    ):
        pass
