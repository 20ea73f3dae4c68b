"""What Ctrl-C leaves on the screen."""

import sys

import pytest
import typer

from circuits.cli import app


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["select"], ""),
        (["evaluate"], "; run again to go on"),
        (["compare", "a", "b"], "; run again to go on"),
        (["discover"], "; run again to go on"),
        (["run", "quickstart"], "; run again to go on"),
        (["search", "--threshold", "1"], "; run again to go on"),
        (["search", "--method", "head-pruning"], ""),
    ],
)
def test_it_says_so_and_whether_it_goes_on(arguments, advice, monkeypatch, capsys):
    stopped = typer.Typer()

    @stopped.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
    def verb():
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "app", stopped)
    monkeypatch.setattr(sys, "argv", ["circuits", *arguments])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == f"circuits: interrupted{advice}"
