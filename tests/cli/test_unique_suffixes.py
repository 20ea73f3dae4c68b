import pytest

from circuits.cli.unique_suffixes import unique_suffixes


@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["runs/a/base", "runs/a/step-9"], ["base", "step-9"]),
        (["a/base/scores", "a/step-9/scores"], ["base", "step-9"]),
        (["a/step-9", "b/step-9", "gpt2"], ["a/step-9", "b/step-9", "gpt2"]),
        (["scores", "a/scores"], ["scores", "a/scores"]),
        (["org/model@step10", "org/model@step20"], ["model@step10", "model@step20"]),
        (["a/step-9/", "./a/step-9", "base"], ["step-9", "step-9", "base"]),
        (["a/b", "a/b"], ["b", "b"]),
        (["gpt2"], ["gpt2"]),
    ],
)
def test_the_shortest_ends_that_tell_apart(places, names):
    assert unique_suffixes(places) == names
