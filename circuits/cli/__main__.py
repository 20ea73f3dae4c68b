"""`python -m circuits.cli`, for where the console script is not on the path."""

from circuits.cli.app import main

main()
