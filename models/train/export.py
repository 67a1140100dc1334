#!/usr/bin/env python3
"""Converts a checkpoint to a GGUF file with F16 matrices and the tokenizer in libllama's format.

usage: ./dev train export [--checkpoint FILE] [--out FILE]
"""

import argparse
import json
import os
import pathlib

import gguf
import numpy as np
import torch

import text
import tokenizer
from model import Model, Shape

# Formats chats as the training formats questions. libllama recognises this template.
CHAT_TEMPLATE = ("{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }}\n"
                 "{% elif m['role'] == 'assistant' %}ASSISTANT: {{ m['content'] }}</s>\n"
                 "{% else %}{{ m['content'] }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}")


def write_metadata(writer, shape, n_context, vocabulary):
    writer.add_name("cake-mini-hybrid" if shape.hybrid else "cake-mini")
    writer.add_description("Answers questions about facts in a long text. Made for cake's demonstration and tests.")
    writer.add_license("mit")
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(n_context)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    if shape.hybrid:
        writer.add_head_count_kv([shape.n_head_kv if shape.has_attention(i) else 0 for i in range(shape.n_layer)])
        writer.add_shortconv_l_cache(shape.n_conv)
    else:
        writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.n_vocab)
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    special = set(tokenizer.SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(tokenizer.PRE)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in vocabulary["merges"]])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_tensors(writer, model):
    s = model.shape
    q, kv = s.n_head * s.head_dim, s.n_head_kv * s.head_dim

    def add(name, tensor):
        writer.add_tensor(name, tensor.detach().numpy().astype(np.float16 if tensor.dim() > 1 else np.float32))

    add("token_embd.weight", model.token_embd.weight)  # also the output matrix, since there is no separate one
    add("token_embd_norm.weight" if s.hybrid else "output_norm.weight", model.output_norm.weight)
    for i, layer in enumerate(model.layers):
        mixer = layer.mixer
        if s.has_attention(i):
            for part, tensor in zip("qkv", mixer.attn_qkv.weight.split((q, kv, kv))):
                add(f"blk.{i}.attn_{part}.weight", tensor)
            for name in ("attn_output", *(("attn_q_norm", "attn_k_norm") if s.hybrid else ())):
                add(f"blk.{i}.{name}.weight", getattr(mixer, name).weight)
        else:
            add(f"blk.{i}.shortconv.in_proj.weight", mixer.in_proj.weight)
            add(f"blk.{i}.shortconv.out_proj.weight", mixer.out_proj.weight)
            writer.add_tensor(f"blk.{i}.shortconv.conv.weight", mixer.conv.detach().numpy())
        gate, up = layer.ffn_gate_up.weight.chunk(2)
        add(f"blk.{i}.ffn_gate.weight", gate)
        add(f"blk.{i}.ffn_up.weight", up)
        for name in ("attn_norm", "ffn_norm", "ffn_down"):
            add(f"blk.{i}.{name}.weight", getattr(layer, name).weight)


def trained_length(log):
    """Returns the largest document length, in tokens, that made up at least a tenth of the training."""
    tokens = {}
    for before, entry in zip([{"tokens": 0}, *log], log):
        tokens[entry["n"]] = tokens.get(entry["n"], 0) + entry["tokens"] - before["tokens"]
    return max(n for n, seen in tokens.items() if seen >= 0.1 * log[-1]["tokens"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=pathlib.Path, default=text.ROOT / "build/train/checkpoint.pt")
    parser.add_argument("--out", type=pathlib.Path, help="default: models/cake-mini.gguf, or build/cake-mini-hybrid.gguf")
    options = parser.parse_args()
    saved = torch.load(options.checkpoint, weights_only=False)
    model = Model(Shape(**saved["shape"]))
    options.out = options.out or text.ROOT / ("build/cake-mini-hybrid.gguf" if model.shape.hybrid else "models/cake-mini.gguf")
    model.load_state_dict(saved["model"])
    vocabulary = json.loads((options.checkpoint.parent / "tokenizer.json").read_text())["model"]
    n_context = trained_length(saved["log"])
    new = options.out.with_suffix(".new")
    writer = gguf.GGUFWriter(new, "lfm2" if model.shape.hybrid else "llama")
    write_metadata(writer, model.shape, n_context, vocabulary)
    write_tensors(writer, model)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(new, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {saved['n_tokens'] / 1e6:.0f}M tokens of training, "
          f"context {n_context}")


if __name__ == "__main__":
    main()
