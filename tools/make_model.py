#!/usr/bin/env python3
"""Makes a GGUF file of the Llama architecture with seeded random weights: real structure, real tokenizer, no knowledge.

Tests compare its logits with llama.cpp's; benchmarks time shapes that nobody ships. Needs python3-gguf and numpy.
"""

import argparse
import itertools
import os
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}


def vocabulary(size):
    """Texts, scores and types of a sentencepiece vocabulary: controls, bytes, then pieces made of frequent letters."""
    letters = "etaoinshrdlucmfwygpbvkxqjz"
    space = "\u2581"
    pieces = [space, *letters, *letters.upper(), *"0123456789.,;:!?'\"-()\n"]
    for n in itertools.count(2):
        if len(pieces) >= 2 * size:
            break
        for letters_of_piece in itertools.product(letters[:18], repeat=n):
            piece = "".join(letters_of_piece)
            pieces += [space + piece, piece]
            if len(pieces) >= 2 * size:
                break
    texts = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    texts += [piece.encode() for piece in dict.fromkeys(pieces)][: size - len(texts)]
    scores = [0.0] * 259 + [-float(i) for i in range(size - 259)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * (size - 259)
    return texts, scores, kinds


class Maker:
    def __init__(self, options):
        self.options = options
        self.random = np.random.default_rng(options.seed)
        self.writer = gguf.GGUFWriter(options.out, "llama", use_temp_file=False)

    def matrix(self, name, rows, columns, scale=1.0):
        """A [columns, rows] matrix in ggml's order, of standard deviation scale / sqrt(columns)."""
        deviation = scale * self.options.scale / np.sqrt(columns)
        kind = TYPES[self.options.type]
        if kind == Type.Q4_0 and rows * columns > 1 << 22:
            # Quantising in Python takes minutes for a large model; random blocks are as good as quantised random numbers.
            blocks = np.empty((rows, columns // 32, 18), np.uint8)
            blocks[..., :2] = np.array([deviation / 4.6], np.float16).view(np.uint8)
            blocks[..., 2:] = self.random.integers(0, 256, (rows, columns // 32, 16), np.uint8)
            self.writer.add_tensor(name, blocks.reshape(rows, -1), raw_dtype=kind)
            return
        values = self.random.standard_normal((rows, columns), np.float32) * np.float32(deviation)
        self.writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(self, name, size, mean, deviation):
        values = mean + deviation * self.random.standard_normal(size, np.float32)
        self.writer.add_tensor(name, values.astype(np.float32))

    def metadata(self):
        o, w = self.options, self.writer
        w.add_name(f"random llama, seed {o.seed}")
        w.add_block_count(o.layers)
        w.add_context_length(o.ctx)
        w.add_embedding_length(o.embd)
        w.add_feed_forward_length(o.ff)
        w.add_head_count(o.heads)
        w.add_head_count_kv(o.heads_kv)
        w.add_key_length(o.head_dim)
        w.add_value_length(o.head_dim)
        w.add_rope_dimension_count(o.head_dim)
        w.add_rope_freq_base(o.rope_freq_base)
        if o.rope_scaling_factor:
            w.add_rope_scaling_factor(o.rope_scaling_factor)
        if o.rope_scale_linear:
            w.add_float32("llama.rope.scale_linear", o.rope_scale_linear)
        w.add_layer_norm_rms_eps(1e-5)
        w.add_vocab_size(o.vocab)
        texts, scores, kinds = vocabulary(o.vocab)
        w.add_tokenizer_model("llama")
        w.add_token_list(texts)
        w.add_token_scores(scores)
        w.add_token_types(kinds)
        w.add_unk_token_id(0)
        w.add_bos_token_id(1)
        w.add_eos_token_id(2)
        w.add_add_bos_token(True)

    def tensors(self):
        o = self.options
        q, kv = o.heads * o.head_dim, o.heads_kv * o.head_dim
        self.matrix("token_embd.weight", o.vocab, o.embd, np.sqrt(o.embd))
        self.vector("output_norm.weight", o.embd, 1, 0.1)
        if not o.tied:
            self.matrix("output.weight", o.vocab, o.embd, 2)
        if o.rope_freqs:
            self.writer.add_tensor("rope_freqs.weight", np.linspace(1, 8, o.head_dim // 2, dtype=np.float32))
        for layer in range(o.layers):
            block = f"blk.{layer}."
            self.vector(block + "attn_norm.weight", o.embd, 1, 0.1)
            # Sharper queries and keys, so that attention prefers some tokens to others.
            self.matrix(block + "attn_q.weight", q, o.embd, 1.6)
            self.matrix(block + "attn_k.weight", kv, o.embd, 1.6)
            self.matrix(block + "attn_v.weight", kv, o.embd)
            self.matrix(block + "attn_output.weight", o.embd, q)
            self.vector(block + "ffn_norm.weight", o.embd, 1, 0.1)
            self.matrix(block + "ffn_gate.weight", o.ff, o.embd)
            self.matrix(block + "ffn_up.weight", o.ff, o.embd)
            self.matrix(block + "ffn_down.weight", o.embd, o.ff)
            if o.bias:
                for name, size in {"attn_q": q, "attn_k": kv, "attn_v": kv, "attn_output": o.embd}.items():
                    self.vector(f"{block}{name}.bias", size, 0, 0.3)

    def write(self):
        self.metadata()
        self.tensors()
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    shape = {"layers": 4, "embd": 128, "heads": 4, "heads-kv": 2, "ff": 256, "vocab": 512, "ctx": 2048}
    for name, default in shape.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"(default {default})")
    parser.add_argument("--head-dim", type=int, metavar="N", help="(default embd / heads)")
    parser.add_argument("--type", choices=TYPES, default="f32", help="type of the matrices (default f32)")
    parser.add_argument("--tied", action="store_true", help="no output matrix: the embeddings serve as one")
    parser.add_argument("--rope-freqs", action="store_true", help="with the rope_freqs tensor of Llama 3")
    parser.add_argument("--bias", action="store_true", help="with biases in the attention")
    parser.add_argument("--rope-freq-base", type=float, default=10000, metavar="X", help="(default 10000)")
    parser.add_argument("--rope-scaling-factor", type=float, metavar="X", help="as files have it that name no scaling type")
    parser.add_argument("--rope-scale-linear", type=float, metavar="X", help="as old files have it")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default 1)")
    parser.add_argument("--scale", type=float, default=1, metavar="X", help="factor on all matrices (default 1)")
    options = parser.parse_args(arguments)
    if min(options.layers, options.embd, options.heads, options.heads_kv, options.ff, options.ctx) < 1:
        parser.error("sizes are positive")
    options.head_dim = options.head_dim or options.embd // options.heads
    if options.vocab < 320:
        parser.error("--vocab is at least 320: controls, bytes and letters")
    block = {"q8_0": 32, "q4_0": 32}.get(options.type, 1)
    if any(n % block for n in (options.embd, options.ff, options.heads * options.head_dim)):
        parser.error(f"--type {options.type} needs widths that are multiples of {block}")
    return options


def main():
    options = parse(sys.argv[1:])
    try:
        Maker(options).write()
    except OSError as error:
        if os.path.exists(options.out):
            os.remove(options.out)
        sys.exit(f"make_model.py: {options.out}: {error.strerror}")


if __name__ == "__main__":
    main()
