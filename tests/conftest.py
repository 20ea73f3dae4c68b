"""Tiny random models of every supported architecture, and one tokenizer; nothing is downloaded."""

from __future__ import annotations

import fnmatch
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("JAXTYPING_DISABLE", "0")

import jaxtyping
import pytest
import shapes
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Shapes in signatures are checked at run time, in every function of both packages.
shapes.install(["circuits", "tasks"])

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark as exhaustive each case that `exhaustive_but` does not keep; keep at least one of each.

    `make test` leaves the exhaustive ones out.
    """
    kept, whole = {}, not any("::" in argument for argument in config.args)
    for item in items:
        for mark in item.iter_markers("exhaustive_but"):
            found = [one for one in mark.args if fnmatch.fnmatchcase(item.callspec.id, one)]
            if not found:
                item.add_marker(pytest.mark.exhaustive)
            name = item.nodeid.partition("[")[0]
            kept.setdefault(name, set(mark.args)).difference_update(found)
    unknown = [f"{name}: no case is {one}" for name, rest in kept.items() for one in rest]
    if whole and unknown:
        raise pytest.UsageError("; ".join(unknown))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Shapes are checked in cases that are not exhaustive; without it the others are quicker."""
    shapes.begin()
    before = jaxtyping.config.jaxtyping_disable
    exhaustive = item.get_closest_marker("exhaustive") is not None
    jaxtyping.config.update("jaxtyping_disable", before or exhaustive)
    try:
        return (yield)
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


VOCABULARY, CONTEXT = 400, 64
WORDS = "the capital of France is Paris and Rome in Italy Mary gave John a book to read at home"

_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_NEOX = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "rotary_pct": 0.5,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
_OPT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "dropout": 0.0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}
_SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(**_GPT2),
    "llama": lambda: transformers.LlamaConfig(**_LLAMA),
    "llama-mha": lambda: transformers.LlamaConfig(**{**_LLAMA, "num_key_value_heads": 4}),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=6),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA, head_dim=12),
    "gemma": lambda: transformers.GemmaConfig(**_LLAMA, head_dim=12),
    "phi3": lambda: transformers.Phi3Config(**_LLAMA),
    "gemma2": lambda: transformers.Gemma2Config(
        **_LLAMA, head_dim=12, query_pre_attn_scalar=12, sliding_window=6
    ),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **_LLAMA, head_dim=12, query_pre_attn_scalar=12, sliding_window=6, layer_types=_SLIDING
    ),
    "olmo2": lambda: transformers.Olmo2Config(**_LLAMA),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**_NEOX, use_parallel_residual=True),
    "gpt-neox-sequential": lambda: transformers.GPTNeoXConfig(**_NEOX, use_parallel_residual=False),
    "gptj": lambda: transformers.GPTJConfig(**_GPT2, rotary_dim=4),
    "opt": lambda: transformers.OPTConfig(**_OPT),
    "bloom": lambda: transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0
    ),
}
ENCODER_DECODERS = {
    "t5": lambda: transformers.T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=12,
        d_ff=48,
        num_layers=2,
        num_decoder_layers=3,
        num_heads=4,
        dropout_rate=0.0,
        eos_token_id=0,
        pad_token_id=0,
        decoder_start_token_id=0,
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=CONTEXT,
        dropout=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=0,
    ),
}
LONG = {"gpt2-long": lambda: transformers.GPT2Config(**{**_GPT2, "n_positions": 256, "n_layer": 2})}
REFUSED = {
    "mixtral": lambda: transformers.MixtralConfig(**_LLAMA, num_local_experts=2),
    "opt-350m": lambda: transformers.OPTConfig(**_OPT, do_layer_norm_before=False),
}


def make_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE, nothing added to a text; common words are single tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {WORDS}"] * 10, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def make_model(name: str) -> transformers.PreTrainedModel:
    """One of the models above."""
    return randomised({**CONFIGS, **ENCODER_DECODERS, **LONG, **REFUSED}[name]())


def randomised(config: transformers.PreTrainedConfig, seed: int = 0):
    """Random weights, large enough that every norm, head and MLP matters."""
    from circuits.models.language import auto_class

    torch.manual_seed(seed)
    model = auto_class(config).from_config(config)
    for parameter in model.parameters():
        with torch.no_grad():
            if parameter.ndim == 2:
                embeds = parameter.shape[0] in (VOCABULARY, CONTEXT, 256)
                parameter.normal_(std=0.5 if embeds else 1.2 * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """name -> folder of a saved tiny model with its tokenizer; made once a session."""
    root = tmp_path_factory.mktemp("models")

    def folder(name: str):
        if not (root / name).exists():
            make_model(name).save_pretrained(root / name)
            make_tokenizer().save_pretrained(root / name)
        return root / name

    return folder


@pytest.fixture(scope="session")
def hooked(model_folder):
    """name -> HookedModel, loaded once a session."""
    from circuits.models import HookedModel

    loaded = {}

    def load(name: str):
        if name not in loaded:
            loaded[name] = HookedModel.from_pretrained(model_folder(name), device="cpu")
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def random_pairs():
    """(n, length, answers, seed) -> pairs of random tokens with right and wrong answers."""
    from tasks.pairs import PairSet, PromptPair

    def make(n=3, length=9, answers=1, seed=0, lengths=None):
        draw = torch.Generator().manual_seed(seed)

        def tokens(size):
            return torch.randint(1, VOCABULARY, (size,), generator=draw).tolist()

        pairs = []
        for row in range(n):
            size = lengths[row] if lengths else length
            clean = tokens(size)
            corrupted = [*clean]
            corrupted[size // 3 : size // 2 + 1] = tokens(size // 2 + 1 - size // 3)
            right = tokens(answers)
            wrong = [(token + 1) % VOCABULARY for token in right]
            pairs.append(
                PromptPair(
                    tuple(clean),
                    tuple(corrupted),
                    tuple((token,) for token in right),
                    tuple((token,) for token in wrong),
                    source=f"random pair {row}",
                )
            )
        return PairSet(tuple(pairs), metric="logit-difference")

    return make


@pytest.fixture(scope="session")
def layout():
    """Of a model of 3 layers, 2 heads and 1 KV head."""
    from circuits.graph import Layout

    return Layout(n_layers=3, n_heads=2, n_kv_heads=1)


@pytest.fixture(scope="session")
def make_scores():
    """per-example tensor -> EdgeScores of it; impossible edges are cleared."""
    from circuits.graph import EdgeScores, Provenance
    from circuits.graph.provenance import DataRecord

    def make(layout, values, fingerprint="pairs"):
        values = (values * layout.mask).float()
        data = DataRecord(task="planted", split="all", n=len(values), fingerprint=fingerprint)
        return EdgeScores(values.mean(dim=0), layout, "eap-ig", Provenance(data=data), values)

    return make


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory):
    """A complete run folder of made-up numbers; not to be written to."""
    from made_run import write_run

    folder = tmp_path_factory.mktemp("runs") / "fake"
    write_run(folder)
    return folder


@pytest.fixture
def untyped():
    """No types are checked, as for users: the function itself refuses what it cannot take."""
    checked = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", checked)
