"""The doctor finds what is wrong, says what to do, and ends with the status that says so."""

from __future__ import annotations

import json
from importlib.metadata import Distribution, PackageNotFoundError
from types import SimpleNamespace

import pytest
import torch
from cli.inside import circuits as run

import circuits
from circuits.doctor import Check, Diagnosis, Finding, machine, packages
from circuits.doctor.diagnose import looked_at
from circuits.doctor.selftest import selftest
from circuits.errors import CircuitsError
from tasks.namesake import DISTRIBUTION


class Made(Distribution):
    """An installed distribution of our own making."""

    def __init__(self, name, version, *requires, extras=()):
        self.name_, self.version_, self.requires_, self.extras_ = name, version, requires, extras

    @property
    def version(self):
        return self.version_

    @property
    def requires(self):
        return list(self.requires_)

    @property
    def metadata(self):
        return SimpleNamespace(get_all=lambda _: list(self.extras_))

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        return path


@pytest.fixture
def installed(monkeypatch):
    """Only these distributions."""

    def install(*made):
        by_name = {one.name_: one for one in made}

        def found(name):
            if name not in by_name:
                raise PackageNotFoundError(name)
            return by_name[name]

        monkeypatch.setattr(packages, "distribution", found)

    return install


def ours(*requires, version=circuits.__version__, extras=()):
    return Made(DISTRIBUTION, version, *requires, extras=extras)


def test_what_is_needed_is_followed_to_its_end(installed):
    installed(
        ours("a>=2", "b", 'c; extra == "more"', 'd; python_version < "3"'),
        Made("a", "2.1", "b>=3", "e"),
        Made("b", "2.0"),
    )
    assert set(packages.conflicts(DISTRIBUTION)) == {
        "a needs b>=3, and 2.0 is installed",
        "a needs e, which is not installed",
    }
    found = packages.requirements()
    assert found.status == "failed" and "a needs e" in found.said


def test_extras_count_where_all_they_need_is_here(installed):
    extras = ("ray", "umap", "dev")
    requires = ('ray>=2; extra == "ray"', 'umap-learn; extra == "umap"', "numpy")
    installed(ours(*requires, extras=extras), Made("ray", "2.5"))
    found = packages.extras()
    assert found == Finding("ok", f"here: ray; not here: umap (pip install '{DISTRIBUTION}[umap]')")


@pytest.mark.parametrize(
    ("others", "status", "said"),
    [
        ((ours(),), "ok", f"{circuits.__version__} in "),
        ((ours(), Made("circuits", "3.2.5")), "failed", "PyPI's circuits 3.2.5, another package"),
        ((ours(version="0.0.1"),), "note", "0.0.1 is what pip knows of: install it again"),
        ((), "note", "not installed (pip install -e ."),
    ],
    ids=["alone", "namesake", "stale", "checkout"],
)
def test_the_package_itself(installed, others, status, said):
    installed(*others)
    found = packages.distribution_found()
    assert found.status == status and said in found.said
    installed(ours())


def test_a_check_that_breaks_is_a_finding():
    def broken():
        raise CircuitsError("two\nlines")

    found = dict(looked_at((Check("this", broken), Check("that", lambda: Finding("ok", "fine")))))
    assert found == {
        "this": Finding("failed", "CircuitsError: two lines"),
        "that": Finding("ok", "fine"),
    }
    diagnosis = Diagnosis(found)
    assert diagnosis.failed == ("this",)
    assert diagnosis.lines() == [
        "failed  this  CircuitsError: two lines",
        "ok      that  fine",
        "to be mended: this",
    ]
    assert diagnosis.to_json() == {
        "ok": False,
        "findings": {
            "this": {"status": "failed", "said": "CircuitsError: two lines"},
            "that": {"status": "ok", "said": "fine"},
        },
    }


def test_the_disk_is_full_or_closed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    found = machine.disk()
    assert found.status == "failed" and "will not fit" in found.said
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))
    assert machine.disk().status == "ok"

    def closed(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", closed)
    found = machine.disk()
    assert found.status == "failed" and f"{tmp_path} cannot be written to" in found.said


def test_offline_is_said(monkeypatch, tmp_path):
    from huggingface_hub import constants

    (tmp_path / "models--gpt2").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found = machine.hub()
    assert found.status == "note" and found.said.startswith(f"1 model in {tmp_path}; offline")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert machine.hub().status == "ok"


def test_a_gpu_that_torch_does_not_see_is_said(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    found = machine.device()
    assert found.status == "note" and "sees no GPU" in found.said


def test_the_self_test_knows_its_figures_and_sees_others(monkeypatch):
    found = selftest()
    assert found.status == "ok" and "479 edges of newsroom-gpt2 scored, 48 of them" in found.said
    from circuits.models import HookedModel

    load = HookedModel.from_pretrained

    def spoiled(source):
        model = load(source)
        with torch.no_grad():
            next(model.hf.parameters()).mul_(1.2)
        return model

    monkeypatch.setattr(HookedModel, "from_pretrained", spoiled)
    found = selftest()
    assert found.status == "failed" and "the metric on clean prompts is" in found.said


def test_the_verb_prints_a_line_a_check(monkeypatch):
    def found(failed):
        return Diagnosis({"disk": Finding("failed" if failed else "ok", "1 GB")})

    monkeypatch.setattr("circuits.doctor.diagnose", lambda: found(False))
    done = run("doctor")
    assert (done.returncode, done.stdout) == (0, "ok      disk  1 GB\nall is well\n")
    monkeypatch.setattr("circuits.doctor.diagnose", lambda: found(True))
    done = run("doctor", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == found(True).to_json()
