"""Writes tiny Hugging Face models as GGUF, as llama.cpp's convert_hf_to_gguf.py does.

Transcribed from its rules and not from what reads them here: tensors are named and changed in the
other direction.
"""

import gguf
import numpy as np

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "olmo2": "olmo2",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
}


def write(path, model, tokenizer=None, quantisation="F32", keys=None, tensors=None, drop=()):
    """Write a model. tokenizer: `tokenizer.ggml.*` values. keys, tensors: more; drop: fewer."""
    config = model.config
    kind = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(path, kind)
    values = {**metadata(config, kind), **(tokenizer or {}), **(keys or {})}
    for key, value in values.items():
        if key not in drop:
            add(writer, key, value)
    found = {**dict(converted(model, kind)), **(tensors or {})}
    for name, tensor in found.items():
        if name in drop:
            continue
        as_kind = gguf.GGMLQuantizationType[quantisation if tensor.ndim > 1 else "F32"]
        block, _ = gguf.GGML_QUANT_SIZES[as_kind]
        if tensor.shape[-1] % block:
            as_kind = gguf.GGMLQuantizationType.F32
        data = gguf.quantize(np.ascontiguousarray(tensor, dtype=np.float32), as_kind)
        writer.add_tensor(name, data, raw_dtype=as_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def metadata(config, kind):
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    found = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "attention.head_count": heads,
    }
    if kind == "gpt2":
        found["feed_forward_length"] = 4 * config.hidden_size
        found["attention.layer_norm_epsilon"] = config.layer_norm_epsilon
    elif kind == "gptneox":
        rope = config.rope_parameters
        found["feed_forward_length"] = config.intermediate_size
        found["rope.dimension_count"] = int(rope["partial_rotary_factor"] * head_dim)
        found["use_parallel_residual"] = config.use_parallel_residual
        found["attention.layer_norm_epsilon"] = config.layer_norm_eps
    else:
        rope = config.rope_parameters
        rope = rope.get("full_attention", rope)
        found["feed_forward_length"] = config.intermediate_size
        found["attention.head_count_kv"] = config.num_key_value_heads
        found["attention.layer_norm_rms_epsilon"] = config.rms_norm_eps
        found["rope.freq_base"] = rope["rope_theta"]
        if kind in ("llama", "phi3"):
            found["rope.dimension_count"] = head_dim
            found["vocab_size"] = config.vocab_size
        if kind in ("qwen3", "gemma", "gemma2", "gemma3"):
            found["attention.key_length"] = found["attention.value_length"] = head_dim
        if kind in ("gemma2", "gemma3"):
            found["attention.sliding_window"] = config.sliding_window
        if kind == "gemma3":
            found["attention.sliding_window_pattern"] = [
                one == "sliding_attention" for one in config.layer_types
            ]
        if kind == "gemma2":
            found["attn_logit_softcapping"] = config.attn_logit_softcapping
            found["final_logit_softcapping"] = config.final_logit_softcapping
    return {f"{kind}.{key}": value for key, value in found.items()}


BASE = {"embed_tokens": "token_embd", "wte": "token_embd", "embed_in": "token_embd"}
BASE |= {"wpe": "position_embd", "norm": "output_norm", "ln_f": "output_norm"}
BASE |= {"final_layer_norm": "output_norm", "lm_head": "output", "embed_out": "output"}
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "ln_1": "attn_norm",
    "ln_2": "ffn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}


def converted(model, kind):
    """Pairs of a GGUF name and values."""
    config = model.config
    heads = config.num_attention_heads
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        path, _, what = name.rpartition(".")
        if path in ("lm_head", "embed_out") and config.tie_word_embeddings:
            continue
        parts = path.split(".")
        numbers = [part for part in parts if part.isdigit()]
        if not numbers:
            stem = BASE[parts[-1]]
        else:
            inner = path.split(f".{numbers[0]}.")[1]
            stem = LAYER[inner]
            if kind in ("gemma2", "gemma3", "olmo2") and inner == "post_attention_layernorm":
                stem = "post_attention_norm"
        if kind == "llama" and stem in ("attn_q", "attn_k"):
            n = heads if stem == "attn_q" else config.num_key_value_heads
            shape = (n, 2, values.shape[0] // n // 2, *values.shape[1:])
            values = values.reshape(shape).swapaxes(1, 2).reshape(values.shape)
        if kind.startswith("gemma") and path.endswith("norm"):
            values = values + 1
        if kind == "gpt2" and path.endswith(("c_attn", "c_proj", "c_fc")) and what == "weight":
            values = values.T
        if kind == "gptneox" and stem == "attn_qkv":
            each = values.reshape(heads, 3, config.hidden_size // heads, *values.shape[1:])
            values = np.concatenate(
                [each[:, part].reshape(-1, *values.shape[1:]) for part in range(3)]
            )
        yield (f"blk.{numbers[0]}.{stem}.{what}" if numbers else f"{stem}.{what}"), values
