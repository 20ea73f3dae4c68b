"""The engine's settings and what travels to workers, without starting Ray."""

import socket
import sys
import threading

import pytest
import torch
from typer.testing import CliRunner

from circuits.cli.app import app
from circuits.errors import CircuitsError
from circuits.models import HookedModel
from circuits.options.engine import RayEngine
from circuits.pipeline import load_recipe
from circuits.runtime.batching import over_batches
from circuits.runtime.cluster.connection import Connection, room
from circuits.runtime.cluster.packing import packed, unpacked
from circuits.runtime.hands import done_in_order


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers 0: it must be at least 1"),
        ({"cpus_per_worker": 0}, "cpus_per_worker 0: it must be at least 1"),
        ({"retries": -1}, "retries -1: it must be at least 0"),
        ({"start_timeout": 0.0}, "start_timeout 0.0: it must be above 0"),
        ({"address": "ray://head:10001"}, "run this on a machine of the cluster"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(CircuitsError, match=message):
        RayEngine(**settings)


def test_flags_of_workers_go_with_the_engine(tmp_path):
    given = ("discover", "--model", "newsroom-gpt2", "--task", "newsroom", "--out", str(tmp_path))
    done = CliRunner().invoke(app, [*given, "--gpus-per-worker", "1"])
    assert str(done.exception) == ("--gpus-per-worker is about workers; it goes with --engine ray")
    for flags, message in (
        (("--engine", "dask"), "unknown engine 'dask'; known: ray"),
        (("--engine", "ray", "--workers", "0"), "workers 0: it must be at least 1"),
    ):
        assert str(CliRunner().invoke(app, [*given, *flags]).exception) == message
    assert not list(tmp_path.iterdir())


def test_a_recipe_has_its_engine_and_a_run_does_not_depend_on_it():
    plain, workers = (load_recipe("quickstart", more) for more in ([], ["engine={workers: 2}"]))
    assert plain.engine is None and workers.engine == RayEngine(workers=2)
    assert workers.to_yaml() == plain.to_yaml()
    with pytest.raises(CircuitsError, match=r"engine.*workers 0: it must be at least 1"):
        load_recipe("quickstart", ["engine={workers: 0}"])


def test_a_worker_computes_on_the_devices_that_it_has():
    assert [RayEngine(gpus_per_worker=n).device for n in (0, 1, 2)] == ["cpu", "cuda", "cuda"]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "nowhere", "head:port"])
def test_an_address_that_does_not_answer_is_refused_in_a_line(address, hooked, random_pairs):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    engine = RayEngine(address.format(port=port))
    with pytest.raises(CircuitsError, match=r"engine: .*address") as refused:
        list(over_batches(hooked("gpt2"), random_pairs(), lambda *_: 0, engine=engine))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("answer", "message"), [(b"HTTP/1.1 400 no", "is no Ray"), (b"", "timed")])
def test_an_address_of_something_else_is_refused(answer, message, monkeypatch):
    monkeypatch.setattr("circuits.runtime.cluster.connection._ANSWERS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        held = []

        def serve():
            held.append(server.accept()[0])
            held[0].sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(CircuitsError, match=message):
            Connection.to(RayEngine(f"127.0.0.1:{server.getsockname()[1]}"))
        thread.join()
        held[0].close()


def test_more_workers_than_there_is_room_for():
    resources = {"CPU": 8.0, "GPU": 4.0, "memory": 1e9}
    assert room(resources, RayEngine()) == 8
    assert room(resources, RayEngine(cpus_per_worker=3)) == 2
    assert room(resources, RayEngine(gpus_per_worker=1)) == 4
    assert room(resources, RayEngine(workers=3, gpus_per_worker=1)) == 3
    with pytest.raises(CircuitsError, match=r"5 of these workers .* 8 CPUs and 4 GPUs .* for 4$"):
        room(resources, RayEngine(workers=5, gpus_per_worker=1))
    with pytest.raises(CircuitsError, match=r"each takes 9 CPUs .* room for 0$"):
        room(resources, RayEngine(cpus_per_worker=9))


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CircuitsError, match=r"pip install 'circuit-discovery\[ray\]'"):
        Connection.to(RayEngine())


def test_tensors_travel_as_they_are():
    table = torch.randn(3, 4)
    given = {
        "strided": table.T,
        "bfloat16": table.bfloat16(),
        "bool": table > 0,
        "scalar": torch.tensor(1.5, dtype=torch.float64),
        "empty": torch.zeros(0, 5, dtype=torch.long),
        "gradient": table.clone().requires_grad_() * 2,
    }
    there = unpacked(packed(given))
    for name, tensor in given.items():
        assert there[name].dtype == tensor.dtype, name
        assert torch.equal(there[name], tensor.detach()), name
    factor = 3
    assert unpacked(packed(lambda x: factor * x))(2) == 6  # what a worker could not import


def test_a_model_is_loaded_from_where_it_was_or_travels(hooked, tokenizer, monkeypatch, tmp_path):
    model = hooked("gpt2")
    monkeypatch.chdir(tmp_path)  # another process stands elsewhere
    recipe = unpacked(packed(model.recipe()))
    assert len(packed(model.recipe())) < 5000  # its source, not its weights
    assert recipe.name == model.name and recipe("cpu").fingerprint == model.fingerprint
    wrapped = HookedModel(recipe("cpu").hf, tokenizer, "wrapped")
    with torch.no_grad():
        wrapped.hf.lm_head.weight += 1
    there = unpacked(packed(wrapped.recipe()))("cpu")
    assert there.fingerprint == wrapped.fingerprint != model.fingerprint
    assert there.hf.lm_head.weight is there.hf.get_input_embeddings().weight  # still tied


def test_a_model_that_was_changed_after_loading_is_refused(model_folder):
    model = HookedModel.from_pretrained(model_folder("llama"), device="cpu")
    with torch.no_grad():
        model.hf.lm_head.weight += 1
    with pytest.raises(CircuitsError, match=r"other weights are loaded from there"):
        model.recipe()("cpu")


def test_tasks_in_this_process_are_done_in_order():
    assert list(done_in_order(lambda x: x * x, [3, 1, 2], called=str)) == [9, 1, 4]
