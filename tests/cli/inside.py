"""The command line within the tests' own process, which spares each call a start of seconds."""

import io
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import cache
from subprocess import CompletedProcess
from unittest import mock

import typer.main

from circuits.cli.app import main

_COMMANDS = cache(typer.main.get_command)  # all verbs and their options take a tenth of a second


def circuits(*arguments, cwd="."):
    """What `circuits ...` returns and prints, called in a folder."""
    words = ["circuits", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status = 0
    streams = redirect_stdout(out), redirect_stderr(err)
    made_once = mock.patch("typer.main.get_command", _COMMANDS)
    with made_once, mock.patch.object(sys, "argv", words), chdir(cwd), streams[0], streams[1]:
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return CompletedProcess(words, status, out.getvalue(), err.getvalue())
