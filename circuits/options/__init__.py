"""Every setting that Python, recipes and the command line share, declared once.

A module holds the dataclasses of one subject. A field has a name, a type, a default and a sentence
under `Attributes:`; functions take the dataclass, recipes nest it, and verbs get its flags from
`circuits.cli.flags`. Nothing here imports torch or pydantic, so that `circuits --help` is quick.
"""
