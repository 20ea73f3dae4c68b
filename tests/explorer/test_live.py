"""The server, in this process: exact answers, and nothing for those who may not ask."""

from __future__ import annotations

import json

import pytest
import torch
from packed_arrays import unpacked

import circuits
from circuits.attribution import patch_edges
from circuits.evaluation.measure import measure
from circuits.explorer.contents import EdgeNumbers
from circuits.explorer.live.app import make_app
from circuits.explorer.live.backends import backend_of
from circuits.explorer.live.gate import Gate
from circuits.explorer.live.messages import MOST_BYTES
from circuits.explorer.live.serve import ExplorerServer
from circuits.explorer.live.task_runs import TaskRuns
from circuits.explorer.live.typed import swapped, typed_pairs
from circuits.explorer.notebook import sharing_weights
from circuits.graph import Circuit
from circuits.intervention import CircuitRunner
from circuits.intervention.patching import PatchSpec, patch

TYPED = {
    "clean": " the capital of France is",
    "corrupted": " the capital of Italy is",
    "correct": " Paris",
    "incorrect": " Rome",
}
HOST = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def model(hooked):
    return hooked("llama")


@pytest.fixture(scope="module")
def task_pairs(random_pairs):
    return random_pairs(n=6, lengths=[9, 9, 7, 9, 7, 9])


@pytest.fixture(scope="module")
def client(model, task_pairs):
    from starlette.testclient import TestClient

    backend = backend_of(model=sharing_weights(model), pairs=task_pairs)
    gate = Gate(make_app(backend), "secret", frozenset({HOST}))
    with TestClient(gate, base_url=f"http://{HOST}") as found:
        yield found
    backend.worker.stop()


class Window:
    """A socket of the server."""

    def __init__(self, socket):
        self.socket, self.next = socket, 0

    def send(self, do, **fields):
        self.next += 1
        self.socket.send_text(json.dumps({"id": self.next, "do": do, **fields}))
        return self.next

    def answer(self, number):
        """The steps of a request, and what it ended with; others' messages are dropped."""
        steps = []
        while True:
            found = json.loads(self.socket.receive_text())
            if found["id"] == number:
                if found["what"] != "step":
                    return steps, found
                steps.append(found)

    def ask(self, do, **fields):
        steps, found = self.answer(self.send(do, **fields))
        assert found["what"] == "done", found
        return steps, found

    def refused(self, do, **fields):
        _, found = self.answer(self.send(do, **fields))
        assert found["what"] == "error"
        return found["said"]


@pytest.fixture
def window(client):
    with client.websocket_connect("/live?token=secret", headers={"Host": HOST}) as socket:
        yield Window(socket)


@pytest.fixture
def typed(window):
    window.ask("prompts", **TYPED)
    return window


def same(found, expected, scale=1.0):
    assert abs(expected) > 1e-6
    assert found == pytest.approx(expected, abs=1e-5 * max(scale, abs(expected)))


def test_prompts_are_laid_side_by_side_and_answered(window, model):
    _, found = window.ask("prompts", **TYPED)
    pairs = typed_pairs(model, **TYPED)
    batch = pairs.batch([0])
    for side, tokens in (("clean", batch.clean), ("corrupted", batch.corrupted)):
        assert [one["id"] for one in found[side]] == tokens[0].tolist()
        logits = model.logits(tokens, batch)[0]
        assert [one["id"] for one in found["tops"][side]] == logits.topk(10).indices.tolist()
        same(found["tops"][side][0]["probability"], float(logits.softmax(0).max()))
    assert found["metric"] == "logit-difference"
    assert [[one["text"] for one in found[side][0]] for side in ("right", "wrong")] == [
        [" Paris"],
        [" Rome"],
    ]


def test_unequal_prompts_are_shown_and_refused(window):
    steps, found = window.answer(
        window.send("prompts", clean=" the capital of France", corrupted=" the capital")
    )
    assert len(steps[0]["clean"]) == 4 and len(steps[0]["corrupted"]) == 2
    assert found["what"] == "error"
    assert "4 tokens and the corrupted one 2" in found["said"] and "position 2" in found["said"]
    assert "type a clean" in window.refused("prompts", clean="", corrupted="")
    assert "first" in window.refused("edge", edge="m0->logits", direction="noise")


def test_without_answers_the_model_gives_them(window, model):
    _, found = window.ask("prompts", clean=TYPED["clean"], corrupted=TYPED["corrupted"])
    tops = found["tops"]
    assert found["right"][0][0]["id"] == tops["clean"][0]["id"]
    if tops["clean"][0]["id"] != tops["corrupted"][0]["id"]:
        assert found["wrong"][0][0]["id"] == tops["corrupted"][0]["id"]
    again = typed_pairs(model, TYPED["clean"], TYPED["corrupted"], f"#{tops['clean'][0]['id']}")
    assert again[0].answer == ((tops["clean"][0]["id"],),)


@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_an_edge_is_patched_as_the_package_patches_it(typed, model, direction):
    pairs = typed_pairs(model, **TYPED)
    side = pairs if direction == "noise" else swapped(pairs)
    ends = measure(model, pairs, [])
    start = float(ends.clean if direction == "noise" else ends.corrupted)
    for edge in ("input->a1.h2<q>", "a0.h1->a2.kv1<v>"):
        _, found = typed.ask("edge", edge=edge, direction=direction)
        effect = float(patch_edges(model, side, [edge]).values)
        same(start - found["value"], effect)
        share = (found["value"] - float(ends.corrupted)) / float(ends.clean - ends.corrupted)
        same(found["recovery"], share)
    assert "no reader" in typed.refused("edge", edge="m1->m9", direction=direction)


@pytest.mark.parametrize(
    ("site", "where"),
    [("resid_pre", {"position": 3}), ("z", {"unit": 1}), ("mlp_out", {}), ("pattern", {"unit": 2})],
)
@pytest.mark.parametrize("direction", ["noise", "denoise"])
def test_a_site_is_patched_as_the_package_patches_it(typed, model, site, where, direction):
    _, found = typed.ask("site", site=site, direction=direction, layer=1, **where)
    spec = PatchSpec(
        site,
        direction,
        sweep=("layer",),
        layers=(1,),
        positions=(where["position"],) if "position" in where else None,
        heads=(where["unit"],) if "unit" in where else None,
    )
    same(found["value"], float(patch(model, typed_pairs(model, **TYPED), spec).mean()))
    assert found["tops"][0]["change"] is not None


def test_a_site_that_changes_nothing_gives_the_run_that_was_patched(typed):
    _, found = typed.ask("site", site="resid_pre", direction="denoise", layer=1, position=0)
    assert found["recovery"] == pytest.approx(0.0, abs=1e-6)
    assert all(one["change"] == 0 for one in found["tops"])


@pytest.mark.parametrize(("site", "by"), [("resid_pre", "position"), ("z", "head")])
def test_a_sweep_grows_to_what_the_package_gives(typed, model, site, by):
    steps, found = typed.ask("sweep", site=site, direction="denoise", by=by)
    assert any(share is None for row in steps[0]["recovery"] for share in row)
    spec = PatchSpec(site, "denoise", sweep=("layer", by))
    expected = patch(model, typed_pairs(model, **TYPED), spec).recovery().value
    assert torch.allclose(torch.tensor(found["recovery"]).double(), expected, atol=2e-5)
    assert expected.abs().max() > 0.01


def test_a_circuit_is_run_on_the_pair_and_on_the_task(typed, model, task_pairs):
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(model.layout.shape, generator=generator) < 0.6) & model.layout.mask
    circuit = Circuit(model.layout, mask)
    numbers = EdgeNumbers.of(model.layout).of_names(circuit.edges).tolist()
    _, found = typed.ask("circuit", edges=numbers)
    assert found["size"] == len(circuit)
    mine = measure(model, typed_pairs(model, **TYPED), [circuit])
    same(found["pair"]["value"], float(mine.circuits))
    others = measure(model, task_pairs, [circuit])
    gap = others.clean.mean() - others.corrupted.mean()
    same(found["task"]["f"], float((others.circuits.mean() - others.corrupted.mean()) / gap))
    assert found["task"]["low"] < found["task"]["f"] < found["task"]["high"]
    assert found["task"]["n"] == 6
    assert "edges" in typed.refused("circuit", edges=[10**6])


@pytest.mark.parametrize("of", ["pair", "task"])
def test_scores_are_those_of_the_package(typed, model, task_pairs, of):
    steps, found = typed.ask("score", of=of, steps=2)
    assert [one["done"] for one in steps] == sorted(one["done"] for one in steps)
    pairs = typed_pairs(model, **TYPED) if of == "pair" else task_pairs
    expected = circuits.attribute(model, pairs, "eap-ig", steps=2)
    scores = unpacked(found["checkpoint"]["scores"])
    flat = expected.matrix.flatten()[EdgeNumbers.of(model.layout).flat].numpy()
    assert abs(flat).max() > 0
    assert abs(scores - flat).max() <= 1e-5 * abs(flat).max()
    assert (found["checkpoint"]["intervals"] is None) == (of == "pair")


def test_a_node_says_where_it_looks_and_what_it_moves(typed, model):
    _, found = typed.ask("node", node="a1.h2")
    pattern = torch.tensor(found["pattern"])
    assert pattern.shape == (5, 5) and torch.allclose(pattern.sum(dim=1), torch.ones(5))
    assert not pattern.triu(1).any()
    _, alone = typed.ask("edge", edge="a1.h2->logits", direction="noise")
    same(found["direct"]["value"], alone["value"])
    runner = CircuitRunner(model, typed_pairs(model, **TYPED).batch([0]))
    without = model.layout.mask.clone()
    without[model.layout.edge("a1.h2->logits")] = False
    change = (runner.logits(Circuit(model.layout, without)) - runner.clean)[0]
    assert [one["id"] for one in found["moved"]] == change.abs().topk(10).indices.tolist()
    same(found["moved"][0]["change"], float(change[found["moved"][0]["id"]]))
    assert "no node" in typed.refused("node", node="a9.h9")


def test_a_cancelled_request_ends_and_the_window_goes_on(typed):
    number = typed.send("score", of="task", steps=64)
    typed.send("cancel", of=number)
    _, found = typed.answer(number)
    assert found["what"] == "cancelled"
    _, found = typed.ask("edge", edge="m1->logits", direction="noise")
    assert found["recovery"] is not None


def test_two_windows_have_their_own_prompts_and_closing_one_ends_its_work(client, typed):
    with client.websocket_connect("/live?token=secret", headers={"Host": HOST}) as socket:
        other = Window(socket)
        other.ask("task_prompts", index=1)
        other.send("score", of="task", steps=64)
        _, mine = typed.ask("edge", edge="m1->logits", direction="noise")
        _, others = other.ask("edge", edge="m1->logits", direction="noise")
        assert mine["value"] != others["value"]
    _, again = typed.ask("edge", edge="m1->logits", direction="noise")
    assert again["value"] == mine["value"]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no JSON", "Invalid JSON"),
        ('{"id": 1, "do": "open", "path": "/etc/passwd"}', "do"),
        ('{"id": 1, "do": "edge", "edge": "m0->logits"}', "direction"),
        ('{"id": 1, "do": "task_prompts", "index": "0"}', "index"),
        ('{"id": 1, "do": "node", "node": "m0", "path": "x"}', "path"),
        (json.dumps({"id": 1, "do": "node", "node": "m" * MOST_BYTES}), "bytes"),
    ],
)
def test_what_is_no_request_is_refused_by_its_field(window, message, said):
    window.socket.send_text(message)
    found = json.loads(window.socket.receive_text())
    assert found["what"] == "error" and said in found["said"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/?token=secret", {}, 200),
        ("/contents?token=secret", {}, 200),
        ("/assets/main.js", {}, 200),
        ("/assets/vendor/cytoscape.js", {}, 200),
        ("/", {}, 403),
        ("/contents?token=secrex", {}, 403),
        ("/contents?token=secret", {"Host": "evil.example:8000"}, 403),
        ("/contents?token=secret", {"Origin": "http://evil.example"}, 403),
        ("/contents?token=secret", {"Origin": f"http://{HOST}"}, 200),
        ("/assets/%2e%2e/%2e%2e/cli/app.py", {}, 404),
        ("/assets//etc/passwd", {}, 404),
        ("/docs?token=secret", {}, 404),
    ],
)
def test_the_gate_lets_in_who_knows_the_token_at_this_address(client, path, headers, status):
    answer = client.get(path, headers=headers)
    assert answer.status_code == status
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {}),
        ("?token=x", {}),
        ("?token=secret", {"Origin": "http://evil.example"}),
        ("?token=secret", {"Host": "evil.example"}),
    ],
)
def test_sockets_pass_the_same_gate(client, query, headers):
    from starlette.websockets import WebSocketDisconnect

    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"/live{query}", headers={"Host": HOST, **headers}),
    ):
        pass


def test_other_machines_are_let_in_only_where_that_is_meant(model):
    backend = backend_of(model=model)
    with pytest.raises(circuits.CircuitsError, match="--allow-remote"):
        ExplorerServer(backend, host="0.0.0.0")
    server = ExplorerServer(backend)
    assert server.address.url.startswith(f"http://127.0.0.1:{server.address.port}/?token=")
    with pytest.raises(circuits.CircuitsError, match="cannot listen"):
        ExplorerServer(backend, port=server.address.port)
    server._socket.close()
    backend.worker.stop()


def test_scores_made_here_make_a_circuit_that_is_read_back(typed, model, tmp_path):
    _, found = typed.ask("score", of="pair", steps=2)
    made = found["checkpoint"]
    order = unpacked(made["order"], "<u4")
    width = model.layout.shape[1]
    flat = EdgeNumbers.of(model.layout).flat
    names = [model.layout.edge_name(*divmod(int(flat[one]), width)) for one in order[:5]]
    edges = [{"edge": name, "score": 0.5} for name in names]
    (tmp_path / "circuit.json").write_text(json.dumps({**made["circuit_file"], "edges": edges}))
    read = Circuit.load(tmp_path / "circuit.json")
    assert set(read.edges) == set(names) and read.provenance.method == "eap-ig"


def test_runs_of_the_task_that_are_not_kept_are_made_again(model, task_pairs):
    """Within what may be kept; f is the same whatever is kept."""
    mask = torch.rand(model.layout.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    circuit = Circuit(model.layout, mask & model.layout.mask)
    passes = []

    def measured(task):
        passes.clear()
        handle = model.hf.base_model.register_forward_hook(lambda *_: passes.append(1))
        try:
            (*_, (n, f)) = task.faithfulness(circuit)
        finally:
            handle.remove()
        assert n == 6 and abs(f.value) > 0
        return (f.value, f.low, f.high), len(passes)

    keeps, forgets = TaskRuns(model, task_pairs), TaskRuns(model, task_pairs, room=0)
    first, again = measured(keeps), measured(keeps)
    assert first[0] == again[0] == measured(forgets)[0] and again[1] < first[1]
    assert measured(forgets) == first
    assert set(keeps._runners) == set(range(len(keeps.batches))) and not forgets._runners
