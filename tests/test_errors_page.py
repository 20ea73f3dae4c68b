"""Every message that docs/errors.md explains is one that the packages give."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GAP = "\N{HORIZONTAL ELLIPSIS}"


def texts():
    """Every string of both packages, with a gap where a value is put in."""
    for path in [*ROOT.glob("circuits/**/*.py"), *ROOT.glob("tasks/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else GAP for part in node.values
                )
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_are_those_of_the_packages():
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\*\*`(.+)`\*\*$", page, re.MULTILINE)
    assert len(explained) >= 20
    given = "\n".join(texts())
    unknown = [one for one in explained if one.replace("...", GAP) not in given]
    assert not unknown
