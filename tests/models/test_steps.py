import pytest

from circuits.models.steps import by_step, training_step, training_steps


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("base", 0),
        ("step-300", 300),
        ("checkpoint-1500", 1500),
        ("run_ckpt_20", 20),
        ("0040", 40),
        ("runs/a/step-5", 5),
        ("runs/step-9/base/", 0),
        ("EleutherAI/pythia-70m@step3000", 3000),
        ("newsroom-gpt2", None),
        ("runs/step-5/tuned", None),
    ],
)
def test_a_name_tells_its_step(name, step):
    assert training_step(name) == step


def test_checkpoints_are_ordered_by_step():
    names = ["base", "step-100", "step-20", "step-3"]
    assert [names[place] for place in by_step(names)] == ["base", "step-3", "step-20", "step-100"]
    assert training_steps(names) == [0, 100, 20, 3]


def test_a_first_name_without_a_step_is_the_base():
    assert training_steps(["gpt2", "step-20", "step-3"]) == [0, 20, 3]
    assert by_step(["gpt2", "step-20", "step-3"]) == [0, 2, 1]
    assert training_steps(["step-3", "step-5"]) == [3, 5]


@pytest.mark.parametrize(
    "names",
    [
        ["b", "a"],
        ["step-20", "final"],
        ["best", "step-3", "step-20"],
        ["merged", "step-3"],
        ["my-tuned-gpt2", "step-3"],
        ["final", "last", "step-3"],
        ["x", "y", "step-3"],
        ["gpt2", "base", "step-3"],
        ["step-1", "ckpt-1"],
        ["x"],
    ],
)
def test_names_that_do_not_tell_stay_as_given(names):
    assert training_steps(names) is None
    assert by_step(names) == list(range(len(names)))


def test_the_end_of_training_stands_last_and_has_no_step():
    """As a shell's `*` gives them, "final" stands before "step"."""
    for names in (["base", "final", "step-100", "step-20"], ["final", "step-100", "step-20"]):
        assert [names[place] for place in by_step(names)][-3:] == ["step-20", "step-100", "final"]
        assert training_steps(names) is None
