"""Writes a llama to GGUF and reads it back with its weights as the file rounds them.

GGUF's llama pairs elements 2i and 2i+1 of a head, so the rows of q and k are permuted.
"""
import gguf
import numpy as np
import torch

from model import Config, Llama

NAMES = {"attention_norm.weight": "attn_norm", "attention.q.weight": "attn_q",
         "attention.k.weight": "attn_k", "attention.v.weight": "attn_v",
         "attention.o.weight": "attn_output", "ffn_norm.weight": "ffn_norm",
         "ffn.gate.weight": "ffn_gate", "ffn.up.weight": "ffn_up", "ffn.down.weight": "ffn_down"}


def gguf_name(name):
    """GGUF name of a parameter of `Llama`."""
    if name.startswith("layers."):
        _, index, rest = name.split(".", 2)
        return f"blk.{index}.{NAMES[rest]}.weight"
    return {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
            "head.weight": "output.weight"}[name]


def permute(rows, heads):
    """Halves order to neighbours order of the rows of each head."""
    return rows.reshape(heads, 2, -1, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows, heads):
    return rows.reshape(heads, -1, 2, rows.shape[-1]).swapaxes(1, 2).reshape(rows.shape)


def heads_of(name, c):
    return {"attn_q": c.heads, "attn_k": c.kv_heads}.get(name.split(".")[-2])


def write(path, model, kind, name, vocab=None):
    """Matrices in type `kind`, vectors in F32; `vocab` is (pieces, scores, types) or None."""
    c, writer = model.c, gguf.GGUFWriter(path, "llama")
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
        target, rows = gguf_name(key), value.detach().numpy().astype(np.float32)
        if rows.ndim == 1:
            writer.add_tensor(target, rows)
            continue
        if heads_of(target, c):
            rows = permute(rows, heads_of(target, c))
        rows = np.ascontiguousarray(rows)
        writer.add_tensor(target, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    """The model with the weights of the file, in float32."""
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[f"llama.{key}"].contents()
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    c = Config(vocab=tensors["token_embd.weight"].shape[0], dim=field("embedding_length"),
               layers=field("block_count"), heads=field("attention.head_count"),
               kv_heads=field("attention.head_count_kv"), head_dim=field("attention.key_length"),
               ffn=field("feed_forward_length"), context=field("context_length"),
               eps=field("attention.layer_norm_rms_epsilon"), theta=field("rope.freq_base"),
               tied="output.weight" not in tensors)
    model = Llama(c)
    for key, value in model.named_parameters():
        name = gguf_name(key)
        rows = tensors[name]
        if heads_of(name, c):
            rows = unpermute(rows, heads_of(name, c))
        value.data = torch.from_numpy(np.array(rows, dtype=np.float32).reshape(value.shape))
    return model.eval()
