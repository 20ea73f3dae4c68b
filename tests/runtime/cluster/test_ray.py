"""Workers on a real Ray: the same bytes as one process, whatever happens to a worker or a node."""

import os
import shutil
import signal
from dataclasses import is_dataclass, replace

import pytest
import torch
from conftest import CONFIGS, make_model, randomised

from circuits.attribution import attribute, attribute_nodes
from circuits.errors import CircuitsError
from circuits.evaluation import task_performance
from circuits.evaluation.measure import measure
from circuits.graph import EdgeScores, select
from circuits.intervention.patching import PatchSpec, patch, path_patch
from circuits.model_diff.documents import diff_documents
from circuits.model_diff.hidden import checkpoint_states
from circuits.models import HookedModel
from circuits.options.engine import RayEngine
from circuits.options.run import RunOptions
from circuits.options.tuning import FinetuneSettings, LoraProtocol
from circuits.pipeline import load_recipe, run
from circuits.runtime.batching import over_batches
from circuits.runtime.cluster.connection import ray_package
from circuits.runtime.cluster.pool import close_engine, pool_of
from circuits.runtime.result_file import Record
from circuits.runtime.resume import PartialResults
from circuits.tuning.lora_comparison import ComparedExamples, compare_lora_targets
from circuits.tuning.lora_targets import LoraTarget
from tasks.pairs import TrainingExample

# A token would be written to the home folder; and workers that give way to whatever else runs have
# next to no time beside other tests.
os.environ.update(RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")

pytestmark = [pytest.mark.exhaustive, pytest.mark.ray]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two cores each; the second one may leave."""
    ray_package()
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 10**8},
    )
    yield made
    for engine in engines_of(made):
        close_engine(engine)
    made.shutdown()


def engines_of(cluster):
    return [RayEngine(cluster.address, 1), engine_of_two(cluster), RayEngine(cluster.address, 4)]


def engine_of_two(cluster):
    return RayEngine(cluster.address, 2, retries=1)


@pytest.fixture(scope="module")
def second(cluster):
    return cluster.add_node(num_cpus=2, object_store_memory=10**8)


@pytest.fixture
def two(cluster, second):
    return engine_of_two(cluster)


def same(one, other):
    """Whether two results hold the same bytes; tensors are compared at least once."""
    found = list(zip(tensors(one), tensors(other), strict=True))
    assert found and any(bool(a.any()) for a, _ in found)
    return all(a.dtype == b.dtype and bytes_of(a) == bytes_of(b) for a, b in found)


def bytes_of(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def tensors(thing):
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        return [each for value in thing.values() for each in tensors(value)]
    if isinstance(thing, list | tuple):
        return [each for value in thing for each in tensors(value)]
    if isinstance(thing, EdgeScores):
        return tensors([thing.matrix, thing.per_example, vars(thing.blocks)])
    if is_dataclass(thing) or isinstance(thing, Record):
        return tensors(vars(thing))
    return []


def scored(model, pairs, engine, **settings):
    return attribute(
        model,
        pairs,
        "eap-ig",
        steps=2,
        options=RunOptions(2, engine=engine),
        per_example=False,
        **settings,
    )


def test_1_2_and_4_workers_and_one_process_give_the_same_bytes(
    cluster, second, hooked, random_pairs
):
    model, pairs = hooked("gpt2"), random_pairs(n=11, lengths=[9, 8, 7, 9, 12, 9, 11, 7, 6, 9, 9])
    here = scored(model, pairs, None)
    for engine in engines_of(cluster):
        assert same(scored(model, pairs, engine), here), engine
        assert len(pool_of(engine).workers) == engine.workers


def test_whatever_runs_batches_gives_the_bytes_of_one_process(two, hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=5)
    base = HookedModel(randomised(CONFIGS["gpt2"](), seed=1), None, "other weights")
    circuit = select(scored(model, pairs, None), size=40)

    def everything(engine):
        options = RunOptions(2, engine=engine)
        yield attribute_nodes(model, pairs, "eap", level="neuron", options=options).values
        yield measure(model, pairs, [circuit], ablation="mean-positional", options=options)
        yield task_performance(model, pairs, options=options)
        yield patch(model, pairs, PatchSpec(site="z"), options=options)
        yield path_patch(model, pairs, ["a0.h1->m1"], options=options)
        yield diff_documents(model, base, pairs, options=options)
        yield checkpoint_states({"a": lambda: base, "b": lambda: model}, pairs, options=options)

    for there, here in zip(everything(two), everything(None), strict=True):
        if tensors(here):
            assert same(there, here), type(here)
        else:
            assert there == here


def test_a_model_that_was_wrapped_travels_itself(two, tokenizer, random_pairs):
    model, pairs = HookedModel(make_model("llama"), tokenizer, "in memory"), random_pairs(n=3)
    assert same(scored(model, pairs, two), scored(model, pairs, None))


def test_a_worker_that_is_killed_is_replaced(two, hooked, random_pairs, caplog):
    model, pairs = hooked("gpt2"), random_pairs(n=12)
    scored(model, pairs[:2], two)  # so that workers are there
    resume = Killing(pid_of(pool_of(two).workers[0]))
    there = scored(model, pairs, two, resume=resume)
    assert resume.killed and same(there, scored(model, pairs, None))
    assert "its work goes to others" in caplog.text


def pid_of(worker):
    return ray_package().get(worker.actor.__ray_call__.remote(lambda _: os.getpid()))


class Killing(PartialResults):
    """Kills a worker when the first batch is taken in."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.killed = pid, False

    def keep(self, index):
        super().keep(index)
        if not self.killed:
            os.kill(self.pid, signal.SIGKILL)
            self.killed = True


def test_a_pair_that_kills_its_workers_is_named(two, hooked, random_pairs):
    def work(_, batch):
        if 3 in batch.index.tolist():
            os.kill(os.getpid(), signal.SIGKILL)
        return len(batch)

    found = over_batches(hooked("gpt2"), random_pairs(n=6), work, batch_size=1, engine=two)
    with pytest.raises(CircuitsError, match="random pair 3: 2 workers died on it") as refused:
        list(found)
    assert "\n" not in str(refused.value)


def test_out_of_memory_halves_in_place_and_names_the_one_that_does_not_fit(
    two, hooked, random_pairs, caplog
):
    def work(most, _, batch):
        return torch.empty(2**62 if len(batch) > most else 1, dtype=torch.uint8)

    def sizes(most, engine):
        pairs = random_pairs(n=9)
        return [
            batch.index.tolist()
            for batch, _ in over_batches(
                hooked("gpt2"),
                pairs,
                lambda model, batch: work(most, model, batch),
                batch_size=4,
                engine=engine,
            )
        ]

    assert sizes(2, two) == sizes(2, None) == [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    with pytest.raises(CircuitsError, match="random pair 0: out of memory with one example"):
        sizes(0, two)


def test_a_pair_that_fails_by_itself_is_named_once_and_what_was_done_is_kept(
    two, hooked, random_pairs, tmp_path
):
    model, pairs = hooked("gpt2"), random_pairs(n=6)

    def work(_, batch):
        if 4 in batch.index.tolist():
            raise CircuitsError(f"{batch.sources[0]}: a score is not finite")
        return len(batch)

    done = []
    with pytest.raises(CircuitsError, match=r"^random pair 4: a score is not finite$"):
        done.extend(
            batch.index.tolist()
            for batch, _ in over_batches(model, pairs, work, batch_size=1, engine=two)
        )
    assert done == [[0], [1], [2], [3]]
    assert len(pool_of(two).workers) == 2  # still there for the next


def test_a_worker_that_cannot_load_the_model_says_so(two, model_folder, random_pairs, tmp_path):
    shutil.copytree(model_folder("llama"), tmp_path / "model")
    model = HookedModel.from_pretrained(tmp_path / "model", device="cpu")
    changed = HookedModel.from_pretrained(tmp_path / "model", device="cpu")
    with torch.no_grad():
        changed.hf.lm_head.weight += 1
    shutil.copytree(tmp_path / "model", tmp_path / "kept")
    with pytest.raises(CircuitsError, match=r"could not load .*model: .*other weights are loaded"):
        scored(changed, random_pairs(n=2), two)
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(CircuitsError, match=r"engine: a worker on .* could not load .*model"):
        scored(model, random_pairs(n=2), two)


def test_loras_trained_side_by_side_are_those_of_one_process(two, model_folder, tmp_path):
    train, held_out = (
        [
            TrainingExample((3 + row, 9, start), (5, row + 7, 0), f"{start}, {row}")
            for row in range(6)
        ]
        for start in (20, 40)
    )
    training = FinetuneSettings(steps=2, learning_rate=1e-2, warmup_steps=1, batch_size=3)
    targets = (LoraTarget.random(1), LoraTarget.random(2, name="random-2"))
    found = {
        name: compare_lora_targets(
            model_folder("gpt2"),
            ComparedExamples(train, held_out, held_out),
            targets,
            LoraProtocol(training=training, seeds=(0, 1), draws=2, rank=2, learning_rates=(1e-3,)),
            tmp_path / name,
            device="cpu",
            options=RunOptions(engine=engine),
        )
        for name, engine in (("here", None), ("there", two))
    }
    here, there = ([replace(run, seconds=0.0) for run in one.runs] for one in found.values())
    assert here == there and len(here) == 4
    for path in (tmp_path / "here").rglob("adapter_model.safetensors"):
        other = tmp_path / "there" / path.relative_to(tmp_path / "here")
        assert path.read_bytes() == other.read_bytes()


def test_a_run_with_an_engine_writes_the_same_score_files(two, tmp_path):
    changes = [
        *("finetune=null", "lora=null", "model_diff=null", "pairs.score=6", "pairs.evaluate=6"),
        *("evaluation.corruptions=[]", "evaluation.perturbations=[]", "evaluation.quality=null"),
        *("evaluation.other_examples=0", "evaluation.minimality=null", "device=cpu"),
        *("evaluation.completeness=null", "evaluation.stability.n_resamples=20"),
    ]
    elsewhere = f"engine={{address: '{two.address}', workers: 2, retries: 1}}"
    for name, more in (("here", []), ("there", [elsewhere])):
        run(load_recipe("quickstart", [*changes, *more]), tmp_path / name, progress=False)
    for file in ("recipe.yaml", "scores/base.safetensors", "scores/base.json", "evaluation.json"):
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


def test_what_a_node_had_when_it_left_is_done_by_others(cluster, second, hooked, random_pairs):
    model, pairs = hooked("gpt2"), random_pairs(n=24)
    engine = RayEngine(cluster.address, 4)
    here = scored(model, pairs, None)
    assert same(scored(model, pairs, engine), here)  # all four are there
    there = scored(model, pairs, engine, resume=Leaving(cluster, second))
    assert same(there, here)
    # All may have been done before anyone missed the node; who asks again does.
    assert same(scored(model, pairs, engine), here)
    assert len([one for one in pool_of(engine).workers if one.ready]) == 2


class Leaving(PartialResults):
    """Removes a node when the first batch is taken in."""

    def __init__(self, cluster, node):
        super().__init__()
        self.cluster, self.node = cluster, node

    def keep(self, index):
        super().keep(index)
        if self.node is not None:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.node = None
