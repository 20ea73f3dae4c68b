"""The command line within the tests' own process, which spares each call a start of seconds."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess
from unittest import mock

from circuits.cli.app import main


def circuits(*arguments):
    """What `circuits ...` returns and prints."""
    words = ["circuits", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with mock.patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    return CompletedProcess(words, status, out.getvalue(), err.getvalue())
