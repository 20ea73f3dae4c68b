#!/usr/bin/env bash
# ruff x jaxtyping: a lint fix that is marked safe switches a run-time check off, and nobody is told.
#
# Versions: ruff 0.17.6, jaxtyping 0.3.11, beartype 0.23.1, numpy 2.4.6, Python 3.11.
# Behaviour: under `from __future__ import annotations`, ruff's UP037 (quoted annotation, a safe fix)
# takes the quotes from Float[ndarray, "doc *shape"], since what stands in them parses as a product,
# and leaves Float[ndarray, doc *shape]: two names that exist nowhere. It does not touch
# "*doc shape" or "doc ...", which are no expressions. With jaxtyping's import hook and beartype the
# module still imports and the function still runs, but it checks nothing any more: an argument of
# the wrong dtype, refused before the fix, is taken after it. F821, which would name the two
# undefined names, is what jaxtyping's own documentation says to switch off.
# Seen: the last lines are "before: refused" and "after: taken".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    ruff==0.17.6 jaxtyping==0.3.11 beartype==0.23.1 numpy==2.4.6
cd "$work"
mkdir before after
cat > before/means.py <<'PY'
from __future__ import annotations

from jaxtyping import Float
from numpy import ndarray


def mean(values: Float[ndarray, "doc *shape"]) -> Float[ndarray, "*shape"]:
    return values.mean(axis=0)
PY
cp before/means.py after/means.py
venv/bin/ruff check --quiet --isolated --select UP037 --fix after/means.py
grep -n "def mean" after/means.py
grep -q 'Float\[ndarray, doc \*shape\]' after/means.py
cat > try.py <<'PY'
import sys

import numpy
from jaxtyping import install_import_hook

sys.path.insert(0, sys.argv[1])
with install_import_hook("means", "beartype.beartype"):
    import means
try:
    means.mean(numpy.ones((2, 3), dtype=int))
except Exception as error:
    print(f"{sys.argv[1]}: refused ({type(error).__name__})")
else:
    print(f"{sys.argv[1]}: taken")
PY
venv/bin/python try.py before | tee seen
venv/bin/python try.py after | tee -a seen
grep -q "^before: refused" seen
grep -q "^after: taken" seen
