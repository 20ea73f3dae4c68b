"""The one error class of the project."""


class CircuitsError(ValueError):
    """Bad input, said in one line: what was wrong, where, and what to do.

    The command line prints the message without a traceback and exits with status 2.
    """
