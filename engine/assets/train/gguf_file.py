"""Writes a model to GGUF and reads it back with its weights as the file rounds them.

GGUF's llama pairs elements 2i and 2i+1 of a head, so the rows of q and k are permuted; qwen3moe
pairs halves. Experts stand in one tensor, the expert outermost.
"""
import gguf
import numpy as np
import torch

from model import Config, Llama

NAMES = {"attention_norm.weight": "attn_norm", "attention.q.weight": "attn_q",
         "attention.k.weight": "attn_k", "attention.v.weight": "attn_v",
         "attention.o.weight": "attn_output", "ffn_norm.weight": "ffn_norm",
         "ffn.gate.weight": "ffn_gate", "ffn.up.weight": "ffn_up", "ffn.down.weight": "ffn_down",
         "attention.q_norm.weight": "attn_q_norm", "attention.k_norm.weight": "attn_k_norm",
         "ffn.router.weight": "ffn_gate_inp"}


def gguf_name(name, c):
    """GGUF name of a parameter of `Llama`."""
    if name.startswith("layers."):
        _, index, rest = name.split(".", 2)
        stacked = "_exps" if is_stacked(name, c) else ""
        return f"blk.{index}.{NAMES[rest]}{stacked}.weight"
    return {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
            "head.weight": "output.weight"}[name]


def permute(rows, heads):
    """Halves order to neighbours order of the rows of each head."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows, heads):
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def is_stacked(name, c):
    return c.experts > 0 and ".ffn." in name and "router" not in name


def stack(rows, name, c):
    """Our experts side by side to GGUF's (experts, rows, cols)."""
    if ".down." in name:
        return rows.reshape(c.dim, c.experts, c.ffn).swapaxes(0, 1)
    return rows.reshape(c.experts, c.ffn, c.dim)


def unstack(rows, name, c):
    return rows.swapaxes(0, 1) if ".down." in name else rows


def heads_of(name, c):
    if c.experts:
        return None
    return {"attn_q": c.heads, "attn_k": c.kv_heads}.get(name.split(".")[-2])


def write(path, model, kind, name, vocab=None):
    """Matrices in type `kind`, vectors in F32; `vocab` is (pieces, scores, types) or None."""
    c = model.c
    writer = gguf.GGUFWriter(path, "qwen3moe" if c.experts else "llama")
    writer.add_name(name)
    writer.add_author("larder")
    writer.add_license("Apache-2.0 OR MIT")
    writer.add_context_length(c.context)
    writer.add_embedding_length(c.dim)
    writer.add_block_count(c.layers)
    writer.add_feed_forward_length(c.ffn)
    writer.add_head_count(c.heads)
    writer.add_head_count_kv(c.kv_heads)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_layer_norm_rms_eps(c.eps)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(c.theta)
    writer.add_vocab_size(c.vocab)
    if c.experts:
        writer.add_expert_count(c.experts)
        writer.add_expert_used_count(c.picks)
        writer.add_expert_feed_forward_length(c.ffn)
    if vocab:
        pieces, scores, types = vocab
        writer.add_tokenizer_model("llama")
        writer.add_token_list(pieces)
        writer.add_token_scores(scores)
        writer.add_token_types(types)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_bos_token(True)
        writer.add_add_space_prefix(True)
    for key, value in model.named_parameters():
        target, rows = gguf_name(key, c), value.detach().numpy().astype(np.float32)
        if rows.ndim == 1:
            writer.add_tensor(target, rows)
            continue
        if heads_of(target, c):
            rows = permute(rows, heads_of(target, c))
        if is_stacked(key, c):
            rows = stack(rows, key, c)
        rows, stored = np.ascontiguousarray(rows), kind
        if "router" in key:
            stored = gguf.GGMLQuantizationType.F32
        writer.add_tensor(target, gguf.quants.quantize(rows, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    """The model with the weights of the file, in float32."""
    reader = gguf.GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    field = lambda key: reader.fields[f"{arch}.{key}"].contents()
    expert = (lambda key: field(f"expert_{key}")) if arch == "qwen3moe" else (lambda key: 0)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    c = Config(vocab=tensors["token_embd.weight"].shape[0], dim=field("embedding_length"),
               layers=field("block_count"), heads=field("attention.head_count"),
               kv_heads=field("attention.head_count_kv"), head_dim=field("attention.key_length"),
               ffn=expert("feed_forward_length") or field("feed_forward_length"),
               experts=expert("count"), picks=expert("used_count"), context=field("context_length"),
               eps=field("attention.layer_norm_rms_epsilon"), theta=field("rope.freq_base"),
               tied="output.weight" not in tensors)
    model = Llama(c)
    for key, value in model.named_parameters():
        name = gguf_name(key, c)
        rows = unstack(tensors[name], key, c) if is_stacked(key, c) else tensors[name]
        if heads_of(name, c):
            rows = unpermute(rows, heads_of(name, c))
        value.data = torch.from_numpy(np.array(rows, dtype=np.float32).reshape(value.shape))
    return model.eval()
