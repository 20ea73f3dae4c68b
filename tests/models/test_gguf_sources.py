"""Where GGUF files come from, and what is said where one is not."""

import hashlib
import json

import pytest
from conftest import make_model, make_tokenizer
from gguf_writer import write

from circuits.errors import CircuitsError
from circuits.models import load_model
from circuits.models.checkpoints import load_config, resolve
from circuits.models.gguf import sources
from circuits.models.gguf.sources import PACKAGED, Packaged, cache_folder


def test_a_folder_with_one_file_is_that_file(tmp_path):
    path = write(tmp_path / "m.gguf", make_model("llama"))
    assert resolve(tmp_path) == (str(path), None)
    assert load_config(tmp_path).num_hidden_layers == 3
    write(tmp_path / "n.gguf", make_model("llama"))
    with pytest.raises(CircuitsError, match=r"holds 2 GGUF files \(m.gguf, n.gguf\); give one of"):
        resolve(tmp_path)


def test_a_folder_with_weights_of_its_own_is_read_as_that(tmp_path):
    make_model("gpt2").save_pretrained(tmp_path)
    write(tmp_path / "m.gguf", make_model("llama"))
    model, _ = load_model(tmp_path, device="cpu")
    assert model.config.model_type == "gpt2"


def test_a_configuration_alone_is_no_weights(tmp_path):
    """As repositories of GGUF files have one."""
    make_model("gpt2").config.save_pretrained(tmp_path)
    write(tmp_path / "m.gguf", make_model("llama"))
    assert load_model(tmp_path, device="cpu")[0].config.model_type == "llama"


def test_another_file_is_no_model(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"")
    with pytest.raises(CircuitsError, match=r"m.bin: a file; give the model's folder, or a .gguf"):
        resolve(tmp_path / "m.bin")
    for missing in (tmp_path / "m.gguf", "m.gguf", "org/name/m.gguf"):
        with pytest.raises(CircuitsError, match=r"m.gguf: no such GGUF file"):
            resolve(missing)


def test_an_adapter_goes_onto_a_file(tmp_path):
    from circuits.tuning.targets import lora_config, wrap

    path = write(tmp_path / "m.gguf", make_model("llama"))
    base, _ = load_model(path, device="cpu")
    wrap(base, lora_config([0], base, rank=2)).save_pretrained(
        tmp_path / "adapter", save_embedding_layers=False
    )
    record = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert record["base_model_name_or_path"] == str(path)
    assert load_model(tmp_path / "adapter", device="cpu")[0].config.num_hidden_layers == 3


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two installed packages that hold the halves of a model, and one that holds it whole."""
    whole = write(tmp_path / "m.gguf", make_model("llama")).read_bytes()
    site = tmp_path / "site"
    for name, file, content in (
        ("tiny_part1", "data/m.part0", whole[:5000]),
        ("tiny_part2", "data/m.part1", whole[5000:]),
        ("tiny_whole", "model.gguf", whole),
    ):
        (site / name / "data").mkdir(parents=True)
        (site / name / "__init__.py").write_text("raise ImportError('not to be imported')")
        (site / name / file).write_bytes(content)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("CIRCUITS_HOME", str(tmp_path / "home"))
    digest = hashlib.sha256(whole).hexdigest()
    parts = Packaged(("tiny_part1", "tiny_part2"), "data/*", "pip install tiny", digest, "t.gguf")
    monkeypatch.setitem(PACKAGED, "tiny-parts", parts)
    monkeypatch.setitem(
        PACKAGED, "tiny-whole", Packaged(("tiny_whole",), "*.gguf", "pip install tiny")
    )
    return site


def test_a_package_is_found_by_its_short_name(packages):
    model, _ = load_model("tiny-whole", device="cpu")
    assert model.config.name_or_path == str(packages / "tiny_whole/model.gguf")


def test_parts_are_joined_once(packages, tmp_path, monkeypatch):
    expected = tmp_path / "home/gguf/t.gguf"
    assert resolve("tiny-parts") == (str(expected), None)
    assert expected.read_bytes() == (tmp_path / "m.gguf").read_bytes()
    before = expected.stat().st_mtime_ns
    resolve("tiny-parts")
    assert expected.stat().st_mtime_ns == before
    expected.write_bytes(b"half")  # as a full disk leaves it
    resolve("tiny-parts")
    assert expected.read_bytes() == (tmp_path / "m.gguf").read_bytes()
    assert {one.name for one in expected.parent.iterdir()} == {"t.gguf", "t.lock"}


def test_damaged_parts_are_refused(packages, tmp_path):
    (packages / "tiny_part2/data/m.part1").write_bytes(b"half")
    with pytest.raises(
        CircuitsError, match=r"tiny-parts: its parts do not make the file .*; pip in"
    ):
        resolve("tiny-parts")
    assert not (tmp_path / "home/gguf/t.gguf").exists()
    (packages / "tiny_part2/data/m.part1").unlink()
    with pytest.raises(
        CircuitsError, match="package tiny-part2 does not hold the model; pip instal"
    ):
        resolve("tiny-parts")


@pytest.mark.parametrize("name", sorted(PACKAGED))
def test_a_package_that_is_not_installed_is_named_with_a_command(name, monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda _: None)
    with pytest.raises(CircuitsError, match=f"^{name}: its package .* is not installed; pip inst"):
        load_model(name, device="cpu")


def test_the_reader_of_quantisations_may_be_missing(tmp_path, monkeypatch):
    path = write(tmp_path / "m.gguf", make_model("llama"))
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(CircuitsError, match="package gguf, which is not installed; pip install gg"):
        load_model(path, device="cpu")


def test_a_folder_of_that_name_comes_first(packages, tmp_path, monkeypatch):
    make_model("gpt2").save_pretrained(tmp_path / "tiny-whole")
    make_tokenizer().save_pretrained(tmp_path / "tiny-whole")
    monkeypatch.chdir(tmp_path)
    assert load_model("tiny-whole", device="cpu")[0].config.model_type == "gpt2"


def test_where_joined_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CIRCUITS_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == tmp_path / ".cache/circuits"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/circuits"
    monkeypatch.setenv("CIRCUITS_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_cache_that_cannot_be_written_is_named(packages, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIRCUITS_HOME", str(tmp_path / "file"))
    with pytest.raises(CircuitsError, match=r"cannot be put together there \(.*\); name another"):
        resolve("tiny-parts")
