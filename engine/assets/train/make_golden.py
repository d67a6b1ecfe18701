#!/usr/bin/env python3
"""Makes the small random models of the tests, and the golden outputs of every model here.

usage: make_golden.py            everything below this folder's parent
"""
import json
import random
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent.parent
sys.path.insert(0, str(HERE / "stories"))
import gguf_file
import vocab as vocabulary
from make_stories import GRAMMAR, prompts
from model import Config, Llama, greedy

PROMPT = "Once there was a cook named Mira who kept a larder under the stairs."
STEPS = 48
TINY = Config(vocab=320, dim=64, layers=3, heads=4, kv_heads=2, head_dim=16, ffn=160, context=256)


def random_model(config, seed):
    """Weights that keep activations and logits near one."""
    torch.manual_seed(seed)
    model = Llama(config)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.data = 1 + 0.1 * torch.randn_like(weight)
        else:
            weight.data = torch.randn_like(weight) * weight.shape[1] ** -0.5
    return model.eval()


def rounded(x):
    """x as 8-bit integers with one scale per 32 elements, back in float32."""
    groups = x.reshape(*x.shape[:-1], -1, 32)
    scale = groups.abs().amax(-1, keepdim=True) / 127
    return (torch.round(groups / scale.clamp(min=1e-30)) * scale).reshape(x.shape)


@torch.no_grad()
def golden(folder, model, prompt, quantised):
    """expected.json and logits.npy of a model and a prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    logits = model(torch.tensor([prompt]))[0].numpy()
    ids, picks, margins = list(prompt), [], []
    for _ in range(STEPS):
        best = torch.topk(model(torch.tensor([ids]))[0, -1], 2)
        picks.append(int(best.indices[0]))
        margins.append(round(float(best.values[0] - best.values[1]), 5))
        ids.append(picks[-1])
    fast = {}
    if quantised:
        hooks = [layer.register_forward_pre_hook(lambda _, inputs: rounded(inputs[0]))
                 for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
        apart = np.abs(model(torch.tensor([prompt]))[0].numpy() - logits)
        for hook in hooks:
            hook.remove()
        fast = {"tolerance_fast": round(float(3 * apart.max()), 4),
                "tolerance_fast_rms": round(float(3 * np.sqrt((apart ** 2).mean())), 4)}
    order = np.argsort(-logits[-1], kind="stable")[:5]
    expected = {"prompt_ids": list(prompt), "greedy": picks, "margins": margins,
                "logits_shape": list(logits.shape), "tolerance": 2e-3, **fast,
                "last_top5": [[int(token), round(float(logits[-1][token]), 5)] for token in order]}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    np.save(folder / "logits.npy", logits.astype(np.float32))


def read_vocab(path):
    """Pieces, scores and types of the vocabulary of a GGUF file."""
    fields = gguf.GGUFReader(path).fields
    return [fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type")]


def folder_model(path, model):
    """The model as a Hugging Face folder, with a tokenizer.json of bytes only."""
    c, path = model.c, Path(path)
    path.mkdir(parents=True, exist_ok=True)
    names = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attention.q": "self_attn.q_proj", "attention.k": "self_attn.k_proj",
             "attention.v": "self_attn.v_proj", "attention.o": "self_attn.o_proj",
             "ffn.gate": "mlp.gate_proj", "ffn.up": "mlp.up_proj", "ffn.down": "mlp.down_proj"}
    tensors = {}
    for key, value in model.named_parameters():
        if key.startswith("layers."):
            _, index, rest = key.split(".", 2)
            key = f"model.layers.{index}.{names[rest.removesuffix('.weight')]}.weight"
        else:
            key = {"embedding.weight": "model.embed_tokens.weight",
                   "norm.weight": "model.norm.weight", "head.weight": "lm_head.weight"}[key]
        tensors[key] = value.detach().contiguous()
    save_file(tensors, path / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": c.dim,
              "num_hidden_layers": c.layers, "num_attention_heads": c.heads,
              "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim,
              "intermediate_size": c.ffn, "vocab_size": c.vocab, "rms_norm_eps": c.eps,
              "rope_theta": c.theta, "max_position_embeddings": c.context,
              "tie_word_embeddings": c.tied, "hidden_act": "silu", "bos_token_id": 1,
              "eos_token_id": 2, "torch_dtype": "float32"}
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    special = [{"id": i, "content": pieces[i], "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    begin = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special,
        "normalizer": None, "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": begin, "pair": begin,
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": {piece: index for index, piece in enumerate(pieces)}, "merges": []}}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")


def main():
    kinds = gguf.GGMLQuantizationType
    prompt = [1] + random.Random(5).sample(range(3, TINY.vocab), 19)
    for name, kind, tied, seed in [("tiny-f32", kinds.F32, False, 1), ("tiny-f16", kinds.F16, True, 2),
                                   ("tiny-q8_0", kinds.Q8_0, False, 3)]:
        path = HERE / "tiny" / f"{name}.gguf"
        path.parent.mkdir(exist_ok=True)
        config = Config(**{**TINY.__dict__, "tied": tied})
        gguf_file.write(path, random_model(config, seed), kind, name)
        golden(HERE / "golden" / name, gguf_file.read(path), prompt, kind == kinds.Q8_0)
    model = random_model(Config(**{**TINY.__dict__, "layers": 2}), 4)
    folder_model(HERE / "tiny" / "tiny-folder", model)
    golden(HERE / "golden" / "tiny-folder", model, prompt, False)

    vocab = vocabulary.Vocab(*read_vocab(HERE / "larder-story.gguf")[:2])
    for name in ["larder-story", "larder-story-moe"]:
        model, folder = gguf_file.read(HERE / f"{name}.gguf"), HERE / "golden" / name
        golden(folder, model, vocab.encode(PROMPT), True)
        tail = greedy(model, [vocab.encode(PROMPT)], 200, vocabulary.EOS)[0]
        story = vocab.decode(vocab.encode(PROMPT) + tail)
        (folder / "story.txt").write_text(story + "\n")
        print(story, GRAMMAR.parses(story), sep="\n")
    beginnings = "\n".join(prompts(72, 11)) + "\n"
    (HERE / "golden" / "larder-story" / "prompts.txt").write_text(beginnings)


if __name__ == "__main__":
    main()
