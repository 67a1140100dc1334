#!/usr/bin/env python3
"""Makes a GGUF file with seeded random weights, the real structure of a model family, and a real tokenizer.

Tests compare its logits with those of llama.cpp; benchmarks use it for shapes that no published model has. Needs
python3-gguf and numpy.
"""

import argparse
import dataclasses
import itertools
import os
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0}


def vocabulary(size):
    """Returns texts, scores and types of a SentencePiece vocabulary: control tokens, bytes, and combined letters."""
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


@dataclasses.dataclass
class Family:
    """How the files of an architecture differ from those of Llama."""
    layer_norm: bool = False  # LayerNorm with its own epsilon, instead of RMSNorm
    norm_bias: bool = False
    beside: bool = False  # the recurrence stands beside the attention of all layers
    separate: bool = False  # attention, recurrence and feed-forward are blocks of their own
    parallel: bool = False  # no norm before the feed-forward
    pre_norm: bool = True
    post_norm: bool = False
    ffn_norm: str = "ffn_norm"
    qk_norm: str = ""  # norm of queries and keys: "heads" (each head) or "all" (one vector); empty: none
    biases: tuple = ()  # matrices that have a bias
    fused: bool = False  # one matrix attn_qkv
    fused_gate: bool = False  # ffn_up also contains the gate
    gated: bool = True
    attention_gate: bool = False
    latent: bool = False  # attention to latent values, of LATENT's sizes
    recurrence: str = ""  # "delta", "mamba" (of DELTA's and MAMBA's sizes) or "convolution", in all layers but every fourth
    grouped: bool = False  # one matrix for both gates of DeltaNet, with those of a head of keys next to each other
    query_gate: bool = False  # attn_q has a gate after the query of each head
    output_norm: str = "output_norm"
    positions: bool = False
    sinks: bool = False
    tied: bool = False
    experts: bool = False
    selection_bias: bool = False
    shared: bool = False  # experts that every token uses
    shared_gate: bool = False
    output_bias: bool = False
    sections: tuple = ()  # of the positions of images, in parts of half a head
    xielu: bool = False
    kinds: int = 0  # layers with a sliding window, all but every kinds-th, have heads of their own, and values are normalised
    beside_dense: bool = False  # a dense feed-forward beside the experts
    layer_scale: bool = False
    rope_factors: bool = False
    values: dict = dataclasses.field(default_factory=dict)  # further metadata


ATTENTION = ("attn_q", "attn_k", "attn_v")
MAMBA = {"conv": 4, "state": 16, "heads": 8}
DELTA = {"conv": 4, "head": 32, "heads_k": 2, "heads_v": 4}
LATENT = {"values": 64, "head": 32, "rot": 32}
DEEPSEEK = {"experts": True, "selection_bias": True, "shared": True,
            "values": {"expert_gating_func": 2, "expert_weights_norm": True, "expert_weights_scale": 1.5}}
FAMILIES = {
    "llama": Family(),
    "qwen2": Family(biases=ATTENTION),
    "qwen3": Family(qk_norm="heads"),
    "qwen3moe": Family(qk_norm="heads", experts=True),
    "gemma2": Family(post_norm=True, tied=True,
                     values={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    "gemma3": Family(post_norm=True, tied=True, qk_norm="heads"),
    "gemma4": Family(post_norm=True, tied=True, qk_norm="heads", kinds=6, beside_dense=True, layer_scale=True,
                     values={"final_logit_softcapping": 30.0}),
    "phi3": Family(fused=True, fused_gate=True, rope_factors=True, values={"rope.scaling.attn_factor": 1.19}),
    "gpt2": Family(layer_norm=True, norm_bias=True, biases=("attn_qkv", "attn_output", "ffn_up", "ffn_down"), fused=True, gated=False,
                   positions=True, tied=True),
    "gpt-oss": Family(ffn_norm="post_attention_norm", biases=(*ATTENTION, "attn_output", "experts"), sinks=True,
                      experts=True),
    "smollm3": Family(tied=True),
    # With the size of a recurrent state, which files of Granite 4 have even if no layer is recurrent.
    "granite": Family(tied=True, values={"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.15,
                                         "logit_scale": 8.0, "ssm.state_size": 128}),
    "olmo2": Family(pre_norm=False, post_norm=True, qk_norm="all"),
    "mistral3": Family(values={"attention.temperature_scale": 0.1}),
    "qwen2moe": Family(biases=ATTENTION, experts=True, shared=True, shared_gate=True),
    "qwen2vl": Family(biases=ATTENTION, tied=True, sections=(16, 24, 24, 0)),
    "qwen3vl": Family(qk_norm="heads", sections=(24, 20, 20, 0)),
    "qwen3vlmoe": Family(qk_norm="heads", experts=True, sections=(24, 20, 20, 0)),
    "qwen35": Family(ffn_norm="post_attention_norm", qk_norm="heads", recurrence="delta", query_gate=True, sections=(6, 5, 5, 0)),
    "qwen35moe": Family(ffn_norm="post_attention_norm", qk_norm="heads", recurrence="delta", query_gate=True, experts=True,
                        shared=True, shared_gate=True, sections=(6, 5, 5, 0)),
    "qwen3next": Family(ffn_norm="post_attention_norm", qk_norm="heads", recurrence="delta", query_gate=True, experts=True,
                        shared=True, shared_gate=True, grouped=True),
    "lfm2": Family(qk_norm="heads", recurrence="convolution", output_norm="token_embd_norm", tied=True),
    "lfm2moe": Family(qk_norm="heads", recurrence="convolution", output_norm="token_embd_norm", tied=True, experts=True,
                      selection_bias=True, values={"expert_gating_func": 2}),
    "gemma": Family(tied=True),
    "phimoe": Family(norm_bias=True, biases=(*ATTENTION, "attn_output"), experts=True, output_bias=True, rope_factors=True,
                     values={"rope.scaling.attn_factor": 1.19}),
    "starcoder2": Family(layer_norm=True, norm_bias=True, biases=(*ATTENTION, "attn_output", "ffn_up", "ffn_down"), gated=False),
    "glm4": Family(post_norm=True, fused_gate=True, biases=ATTENTION),
    "glm4moe": Family(ffn_norm="post_attention_norm", biases=ATTENTION, **DEEPSEEK),
    "minimax-m2": Family(qk_norm="all", experts=True, selection_bias=True, values={"expert_gating_func": 2}),
    "deepseek2": Family(latent=True, **DEEPSEEK),
    "mistral4": Family(latent=True, experts=True, shared=True,
                       values={"expert_gating_func": 1, "expert_weights_norm": True, "attention.temperature_scale": 0.1,
                               "attention.temperature_length": 64}),
    "hy_v3": Family(qk_norm="heads", **DEEPSEEK),
    "dots1": Family(qk_norm="heads", **DEEPSEEK),
    "bailingmoe2": Family(fused=True, qk_norm="heads", **DEEPSEEK),
    "afmoe": Family(qk_norm="heads", post_norm=True, attention_gate=True, **DEEPSEEK),
    "mellum": Family(qk_norm="heads", experts=True),
    "ernie4_5": Family(tied=True),
    "ernie4_5-moe": Family(experts=True, selection_bias=True, shared=True, values={"interleave_moe_layer_step": 1}),
    "hunyuan-dense": Family(qk_norm="heads", tied=True),
    "hunyuan-moe": Family(qk_norm="heads", tied=True, experts=True, shared=True),
    "seed_oss": Family(ffn_norm="post_attention_norm", biases=ATTENTION),
    "exaone": Family(),
    "exaone4": Family(pre_norm=False, post_norm=True, qk_norm="heads"),
    "exaone-moe": Family(qk_norm="heads", **DEEPSEEK),
    "smallthinker": Family(experts=True, values={"expert_gating_func": 3}),
    "arcee": Family(gated=False),
    "apertus": Family(qk_norm="heads", gated=False, xielu=True),
    "granitemoe": Family(tied=True, experts=True, shared=True,
                         values={"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.15, "logit_scale": 8.0}),
    "granitehybrid": Family(tied=True, recurrence="mamba", shared=True,
                            values={"embedding_scale": 12.0, "residual_scale": 0.22, "attention.scale": 0.15, "logit_scale": 8.0,
                                    "rope.scaling.finetuned": False}),
    "falcon-h1": Family(recurrence="mamba", beside=True),
    "nemotron_h": Family(recurrence="mamba", gated=False, separate=True, values={"attention.layer_norm_epsilon": 1e-5}),
    "nemotron_h_moe": Family(recurrence="mamba", gated=False, separate=True, experts=True, selection_bias=True, shared=True,
                             values={"expert_weights_norm": True, "expert_weights_scale": 2.5,
                                     "attention.layer_norm_epsilon": 1e-5}),
    "olmoe": Family(qk_norm="all", experts=True),
    "command-r": Family(layer_norm=True, parallel=True, tied=True, values={"logit_scale": 0.0625}),
    "cohere2": Family(layer_norm=True, parallel=True, tied=True, values={"logit_scale": 0.25}),
}


class Maker:
    def __init__(self, options):
        self.options = options
        self.family = FAMILIES[options.arch]
        self.pattern = options.pattern or self.family.kinds
        self.random = np.random.default_rng(options.seed)
        self.writer = gguf.GGUFWriter(options.out, options.arch, use_temp_file=False)

    def matrix(self, name, rows, columns, scale=1.0, n_expert=0):
        """Adds a [columns, rows] matrix in ggml's order, or n_expert of them, with standard deviation
        scale / sqrt(columns)."""
        deviation = scale * self.options.scale / np.sqrt(columns)
        kind = TYPES[self.options.type]
        shape = (n_expert, rows, columns) if n_expert else (rows, columns)
        if kind == Type.Q4_0 and rows * columns > 1 << 22:
            # Quantising a large model in Python takes minutes. Random blocks serve as well as quantised random numbers.
            blocks = np.empty((*shape[:-1], columns // 32, 18), np.uint8)
            blocks[..., :2] = np.array([deviation / 4.6], np.float16).view(np.uint8)
            blocks[..., 2:] = self.random.integers(0, 256, (*shape[:-1], columns // 32, 16), np.uint8)
            self.writer.add_tensor(name, blocks.reshape(*shape[:-1], -1), raw_dtype=kind)
            return
        values = self.random.standard_normal(shape, np.float32) * np.float32(deviation)
        self.writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def vector(self, name, size, mean, deviation):
        values = mean + deviation * self.random.standard_normal(size, np.float32)
        self.writer.add_tensor(name, values.astype(np.float32))

    def value(self, key, value):
        key = f"{self.options.arch}.{key}"
        if isinstance(value, str):
            self.writer.add_string(key, value)
        elif isinstance(value, float):
            self.writer.add_float32(key, value)
        elif isinstance(value, bool):
            self.writer.add_bool(key, value)
        else:
            self.writer.add_uint32(key, value)

    def metadata(self):
        o, w = self.options, self.writer
        # The name does not contain the family, because libllama recognises some tokenizers by the name.
        w.add_name(f"random weights, seed {o.seed}")
        w.add_block_count(len(self.blocks()) + o.next_token_layers)
        w.add_context_length(o.ctx)
        w.add_embedding_length(o.embd)
        if self.family.separate:
            w.add_feed_forward_length([o.ff if kind == "feed-forward" else 0 for kind in self.blocks()])
        else:
            w.add_feed_forward_length([self.n_ff(layer) for layer in range(o.layers)] if o.shared_layers else o.ff)
        w.add_head_count(o.heads)
        if self.family.latent:
            w.add_head_count_kv(1)
            w.add_key_length(LATENT["values"] + LATENT["rot"])
            w.add_value_length(LATENT["values"])
            w.add_key_length_mla(LATENT["head"] + LATENT["rot"])
            w.add_value_length_mla(LATENT["head"])
            w.add_kv_lora_rank(LATENT["values"])
            w.add_q_lora_rank(o.lora_q or 1)
            o.rot = LATENT["rot"]
        else:
            if self.family.separate:
                w.add_head_count_kv([o.heads_kv if kind == "attention" else 0 for kind in self.blocks()])
            elif self.family.recurrence in ("convolution", "mamba") and not self.family.beside or o.heads_by_layer:
                w.add_head_count_kv([0 if self.is_recurrent(layer) else o.heads_kv for layer in range(o.layers)])
            elif self.family.kinds:
                w.add_head_count_kv([self.heads(layer)[0] for layer in range(o.layers)])
            else:
                w.add_head_count_kv(o.heads_kv)
            w.add_key_length(o.head_dim)
            w.add_value_length(o.head_dim)
        if not self.family.positions:
            w.add_rope_dimension_count(o.rot or o.head_dim)
            w.add_rope_freq_base(o.rope_freq_base)
        optional = {"rope.scaling.type": o.rope_scaling_type, "rope.scaling.factor": o.rope_scaling_factor,
                    "rope.scale_linear": o.rope_scale_linear, "rope.scaling.original_context_length": o.ctx_orig,
                    "rope.scaling.yarn_log_multiplier": o.yarn_log_multiplier,
                    "rope.scaling.yarn_attn_factor": o.yarn_attn_factor,
                    "attention.sliding_window": o.swa, "expert_count": o.experts, "expert_used_count": o.experts_used}
        if self.family.experts or self.family.beside_dense and o.experts:
            optional["expert_feed_forward_length"] = o.ff
        if self.family.shared:
            optional["expert_shared_count"] = 1
            optional["expert_shared_feed_forward_length"] = o.ff
        optional["leading_dense_block_count"] = o.dense_lead
        optional["nextn_predict_layers"] = o.next_token_layers
        optional["expert_group_count"], optional["expert_group_used_count"] = o.groups
        for key, value in {**self.family.values, **optional}.items():
            if value or value is False:
                self.value(key, value)
        if self.pattern:
            w.add_array(f"{o.arch}.attention.sliding_window_pattern", [self.is_swa(layer) for layer in range(o.layers)])
        if self.family.kinds:
            for key, value in {"attention.key_length_swa": o.head_dim_swa, "attention.value_length_swa": o.head_dim_swa,
                               "rope.dimension_count_swa": o.head_dim_swa, "rope.freq_base_swa": 10000.0,
                               "attention.shared_kv_layers": o.shared_layers,
                               "embedding_length_per_layer_input": o.layer_embd}.items():
                self.value(key, value)
        if self.family.recurrence == "convolution":
            w.add_shortconv_l_cache(3)
        if self.family.recurrence == "mamba":
            w.add_ssm_conv_kernel(MAMBA["conv"])
            w.add_ssm_state_size(MAMBA["state"])
            w.add_ssm_group_count(o.ssm_groups)
            w.add_ssm_time_step_rank(MAMBA["heads"])
            w.add_ssm_inner_size(2 * o.embd)
        if self.family.recurrence == "delta":
            w.add_ssm_conv_kernel(DELTA["conv"])
            w.add_ssm_state_size(DELTA["head"])
            w.add_ssm_group_count(DELTA["heads_k"])
            w.add_ssm_time_step_rank(DELTA["heads_v"])
            w.add_ssm_inner_size(DELTA["heads_v"] * DELTA["head"])
            w.add_full_attention_interval(4)
        if self.family.sections:
            w.add_rope_dimension_sections(self.family.sections)
        if self.family.xielu:
            for i, name in enumerate(("alpha_n", "alpha_p", "beta", "eps")):
                w.add_array(f"xielu.{name}", [(0.8, 0.6, 0.5, 1e-6)[i] * (1 + 0.1 * layer) for layer in range(o.layers)])
        if self.family.layer_norm:
            w.add_layer_norm_eps(o.norm_eps)
        else:
            w.add_layer_norm_rms_eps(o.norm_eps)
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

    def norm(self, name):
        self.vector(name + ".weight", self.options.embd, 1, 0.1)
        if self.family.norm_bias:
            self.vector(name + ".bias", self.options.embd, 0, 0.1)

    def linear(self, block, name, rows, columns, scale=1.0):
        self.matrix(f"{block}{name}.weight", rows, columns, scale)
        if name in self.family.biases or (self.options.bias and name.startswith("attn")):
            self.vector(f"{block}{name}.bias", rows, 0, 0.3)

    def experts(self, block, name, rows, columns, scale=1.0):
        o = self.options
        self.matrix(f"{block}{name}.weight", rows, columns, scale, o.experts)
        if "experts" in self.family.biases:
            self.vector(f"{block}{name}.bias", (o.experts, rows), 0, 0.3)

    def latent_attention(self, block):
        o = self.options
        n_query = o.heads * (LATENT["head"] + LATENT["rot"])
        if o.lora_q:
            self.matrix(block + "attn_q_a.weight", o.lora_q, o.embd)
            self.vector(block + "attn_q_a_norm.weight", o.lora_q, 1, 0.1)
            self.matrix(block + "attn_q_b.weight", n_query, o.lora_q, 1.6)
        else:
            self.matrix(block + "attn_q.weight", n_query, o.embd, 1.6)
        self.matrix(block + "attn_kv_a_mqa.weight", LATENT["values"] + LATENT["rot"], o.embd, 1.6)
        self.vector(block + "attn_kv_a_norm.weight", LATENT["values"], 1, 0.1)
        self.matrix(block + "attn_k_b.weight", LATENT["values"], LATENT["head"], n_expert=o.heads)
        self.matrix(block + "attn_v_b.weight", LATENT["head"], LATENT["values"], n_expert=o.heads)
        self.matrix(block + "attn_output.weight", o.embd, o.heads * LATENT["head"], o.residual_scale)

    def blocks(self):
        """What the blocks of the file are. In separate ones, every third layer has no feed-forward."""
        kinds = []
        for layer in range(self.options.layers):
            kinds.append("recurrence" if self.is_recurrent(layer) else "attention")
            if self.family.separate and layer % 3 != 1:
                kinds.append("feed-forward")
        return kinds

    def is_swa(self, layer):
        return self.pattern > 0 and layer % self.pattern != self.pattern - 1

    def heads(self, layer):
        """The number of KV heads of a layer, and their width."""
        o = self.options
        return (o.heads_kv_swa, o.head_dim_swa) if self.is_swa(layer) else (o.heads_kv, o.head_dim)

    def has_kv(self, layer):
        o = self.options
        return not o.layers - o.shared_layers <= layer < o.layers

    def n_ff(self, layer):
        """Layers that share K and V are twice as wide, as in Gemma 4 E2B."""
        return self.options.ff * (1 if self.has_kv(layer) else 2)

    def is_recurrent(self, layer):
        return bool(self.family.recurrence) and layer < self.options.layers and layer % 4 != 3

    def convolution(self, name, kernel, channels):
        values = self.random.standard_normal((channels, kernel), np.float32) / np.float32(np.sqrt(kernel))
        self.writer.add_tensor(name, values)

    def recurrent(self, block):
        o = self.options
        if self.family.recurrence == "convolution":
            self.matrix(block + "shortconv.in_proj.weight", 3 * o.embd, o.embd)
            self.convolution(block + "shortconv.conv.weight", 3, o.embd)
            self.matrix(block + "shortconv.out_proj.weight", o.embd, o.embd, o.residual_scale)
            return
        if self.family.recurrence == "mamba":
            values = 2 * o.embd
            channels = values + 2 * o.ssm_groups * MAMBA["state"]
            self.matrix(block + "ssm_in.weight", values + channels + MAMBA["heads"], o.embd)
            self.convolution(block + "ssm_conv1d.weight", MAMBA["conv"], channels)
            self.vector(block + "ssm_conv1d.bias", channels, 0, 0.1)
            self.vector(block + "ssm_dt.bias", MAMBA["heads"], 0, 0.5)
            self.vector(block + "ssm_a", (MAMBA["heads"], 1), -0.5, 0.1)
            self.vector(block + "ssm_d", (MAMBA["heads"], 1), 1, 0.1)
            if not self.family.beside:
                self.vector(block + "ssm_norm.weight", (o.ssm_groups, values // o.ssm_groups), 1, 0.1)
            self.matrix(block + "ssm_out.weight", o.embd, values, o.residual_scale)
            return
        values = DELTA["heads_v"] * DELTA["head"]
        channels = 2 * DELTA["heads_k"] * DELTA["head"] + values
        if o.joined_gate:
            self.matrix(block + "ssm_in.weight", channels + values, o.embd)
        else:
            self.matrix(block + "attn_qkv.weight", channels, o.embd)
            self.matrix(block + "attn_gate.weight", values, o.embd)
        self.convolution(block + "ssm_conv1d.weight", DELTA["conv"], channels)
        self.vector(block + "ssm_dt.bias", DELTA["heads_v"], 0, 0.5)
        self.vector(block + "ssm_a", DELTA["heads_v"], -0.5, 0.1)
        if self.family.grouped:
            self.matrix(block + "ssm_ba.weight", 2 * DELTA["heads_v"], o.embd)
        else:
            self.matrix(block + "ssm_alpha.weight", DELTA["heads_v"], o.embd)
            self.matrix(block + "ssm_beta.weight", DELTA["heads_v"], o.embd)
        self.vector(block + "ssm_norm.weight", DELTA["head"], 1, 0.1)
        self.matrix(block + "ssm_out.weight", o.embd, values, o.residual_scale)

    def attention(self, block, layer):
        o, f = self.options, self.family
        if f.latent:
            self.latent_attention(block)
            return
        heads_kv, head_dim = self.heads(layer)
        q, kv = o.heads * head_dim, heads_kv * head_dim
        # Larger queries and keys, so that attention is not uniform.
        if f.fused:
            self.linear(block, "attn_qkv", q + 2 * kv, o.embd, 1.6)
        else:
            self.linear(block, "attn_q", 2 * q if f.query_gate else q, o.embd, 1.6)
            if self.has_kv(layer):
                self.linear(block, "attn_k", kv, o.embd, 1.6)
                if not o.values_are_keys or self.is_swa(layer):
                    self.linear(block, "attn_v", kv, o.embd)
        if f.qk_norm:
            # Where the logits of attention are not divided by the root of the width, the norms are smaller.
            mean, deviation = (0.5, 0.1) if f.kinds else (1.3, 0.2)
            self.vector(block + "attn_q_norm.weight", q if f.qk_norm == "all" else head_dim, mean, deviation)
            if self.has_kv(layer):
                self.vector(block + "attn_k_norm.weight", kv if f.qk_norm == "all" else head_dim, mean, deviation)
        if f.sinks:
            self.vector(block + "attn_sinks.weight", o.heads, 1, 1)
        if f.attention_gate:
            self.linear(block, "attn_gate", q, o.embd)
        self.linear(block, "attn_output", o.embd, q, o.residual_scale)

    def shared_experts(self, block):
        o, f = self.options, self.family
        if f.shared_gate:
            self.vector(block + "ffn_gate_inp_shexp.weight", o.embd, 0, 0.1)
        if f.gated:
            self.linear(block, "ffn_gate_shexp", o.ff, o.embd)
        self.linear(block, "ffn_up_shexp", o.ff, o.embd)
        self.linear(block, "ffn_down_shexp", o.embd, o.ff, o.residual_scale)

    def feed_forward(self, block, layer):
        o, f = self.options, self.family
        # The layers of EXAONE that predict further tokens have no experts.
        if o.experts and layer >= o.dense_lead and not (o.arch == "exaone-moe" and layer >= o.layers):
            values = self.random.standard_normal((o.experts, o.embd), np.float32) / np.float32(np.sqrt(o.embd))
            self.writer.add_tensor(block + "ffn_gate_inp.weight", values)
            if "experts" in f.biases:
                self.vector(block + "ffn_gate_inp.bias", o.experts, 0, 0.3)
            if f.beside_dense:
                self.experts(block, "ffn_gate_up_exps", 2 * o.ff, o.embd)
            else:
                if f.gated:
                    self.experts(block, "ffn_gate_exps", o.ff, o.embd)
                self.experts(block, "ffn_up_exps", o.ff, o.embd)
            self.experts(block, "ffn_down_exps", o.embd, o.ff, o.residual_scale)
            if f.selection_bias:
                self.vector(block + ("exp_probs_b" if o.arch == "hy_v3" else "exp_probs_b.bias"), o.experts, 0, 0.1)
            if f.shared:
                self.shared_experts(block)
            if not f.beside_dense:
                return
            self.vector(block + "ffn_gate_inp.scale", o.embd, 1, 0.1)
            self.vector(block + "ffn_down_exps.scale", o.experts, 1, 0.2)
            for name in ("pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"):
                self.norm(block + name)
        n_ff = self.n_ff(layer)
        if f.gated and not f.fused_gate:
            self.linear(block, "ffn_gate", n_ff, o.embd)
        self.linear(block, "ffn_up", 2 * n_ff if f.fused_gate else n_ff, o.embd)
        self.linear(block, "ffn_down", o.embd, n_ff, o.residual_scale)

    def layer_embedding(self, block):
        o = self.options
        self.matrix(block + "inp_gate.weight", o.layer_embd, o.embd)
        self.matrix(block + "proj.weight", o.embd, o.layer_embd)
        self.norm(block + "post_norm")

    def tensors(self):
        o, f = self.options, self.family
        self.matrix("token_embd.weight", o.vocab, o.embd, (1 if f.tied else np.sqrt(o.embd)) * o.residual_scale)
        if f.positions:
            self.vector("position_embd.weight", (o.ctx, o.embd), 0, 0.1)
        self.norm(f.output_norm)
        if not (o.tied or f.tied):
            self.matrix("output.weight", o.vocab, o.embd, 2)
        if f.output_bias:
            self.vector("output.bias", o.vocab, 0, 1)
        n_pairs = (o.rot or o.head_dim) // 2
        if o.rope_freqs:
            self.writer.add_tensor("rope_freqs.weight", np.linspace(1, 8, n_pairs, dtype=np.float32))
        if f.rope_factors:
            self.writer.add_tensor("rope_factors_short.weight", np.linspace(1, 1.5, n_pairs, dtype=np.float32))
            self.writer.add_tensor("rope_factors_long.weight", np.linspace(1, 30, n_pairs, dtype=np.float32))
        if o.layer_embd:
            self.matrix("per_layer_token_embd.weight", o.vocab, o.layer_embd * o.layers)
            self.matrix("per_layer_model_proj.weight", o.layer_embd * o.layers, o.embd)
            self.vector("per_layer_proj_norm.weight", o.layer_embd, 1, 0.1)
        if f.separate:
            for number, kind in enumerate(self.blocks()):
                block = f"blk.{number}."
                self.norm(block + "attn_norm")
                if kind == "recurrence":
                    self.recurrent(block)
                elif kind == "attention":
                    self.attention(block, 0)
                else:
                    self.feed_forward(block, 0)
            return
        for layer in range(o.layers + o.next_token_layers):
            block = f"blk.{layer}."
            if f.pre_norm:
                self.norm(block + "attn_norm")
            if f.beside or self.is_recurrent(layer):
                self.recurrent(block)
            if f.beside or not self.is_recurrent(layer):
                self.attention(block, layer)
            if f.post_norm:
                self.norm(block + "post_attention_norm")
            if o.arch == "falcon-h1":
                self.vector(block + f.ffn_norm, o.embd, 1, 0.1)
            elif f.pre_norm and not f.parallel:
                self.norm(block + f.ffn_norm)
            self.feed_forward(block, layer)
            if f.post_norm:
                self.norm(block + "post_ffw_norm")
            if o.layer_embd:
                self.layer_embedding(block)
            if f.layer_scale:
                self.vector(block + "layer_output_scale.weight", 1, 1, 0.1)
            if layer >= o.layers:
                self.next_token(block)

    def next_token(self, block):
        """What a layer that predicts a further token has beside those of other layers."""
        o = self.options
        self.matrix(block + "nextn.eh_proj.weight", o.embd, 2 * o.embd)
        for name in ("nextn.enorm", "nextn.hnorm", "layer_output_norm"):
            if name != "layer_output_norm" or o.arch == "bailingmoe2":
                self.vector(f"{block}{name}.weight", o.embd, 1, 0.1)

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
    parser.add_argument("--arch", choices=FAMILIES, default="llama", help="the family (default llama)")
    shape = {"layers": 4, "embd": 128, "heads": 4, "heads-kv": 2, "ff": 256, "vocab": 512, "ctx": 2048}
    for name, default in shape.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"(default {default})")
    parser.add_argument("--head-dim", type=int, metavar="N", help="(default embd / heads)")
    parser.add_argument("--type", choices=TYPES, default="f32", help="type of the matrices (default f32)")
    parser.add_argument("--tied", action="store_true", help="no output matrix: the embeddings serve as one")
    parser.add_argument("--rope-freqs", action="store_true", help="with the rope_freqs tensor of Llama 3")
    parser.add_argument("--bias", action="store_true", help="with biases in the attention")
    parser.add_argument("--experts", type=int, metavar="N", help="experts in a layer")
    parser.add_argument("--experts-used", type=int, metavar="N", help="of them, those that a token uses")
    parser.add_argument("--groups", type=int, nargs=2, default=(0, 0), metavar=("N", "USED"), help="groups of experts")
    parser.add_argument("--heads-by-layer", action="store_true", help="state the number of KV heads for every layer")
    parser.add_argument("--ssm-groups", type=int, default=1, metavar="N", help="groups of Mamba-2 (default 1)")
    parser.add_argument("--lora-q", type=int, default=0, metavar="N", help="latent values of queries (default: none)")
    parser.add_argument("--dense-lead", type=int, default=0, metavar="N", help="first layers, without experts")
    parser.add_argument("--next-token-layers", type=int, default=0, metavar="N",
                        help="layers after the others that predict further tokens")
    parser.add_argument("--swa", type=int, metavar="N", help="tokens that layers with a sliding window attend to")
    parser.add_argument("--pattern", type=int, default=0, metavar="N",
                        help="state for each layer whether it has a sliding window: all but every Nth")
    parser.add_argument("--head-dim-swa", type=int, metavar="N", help="width of heads in layers with a sliding window")
    parser.add_argument("--heads-kv-swa", type=int, metavar="N", help="KV heads in layers with a sliding window")
    parser.add_argument("--shared-layers", type=int, default=0, metavar="N", help="last layers, without K and V of their own")
    parser.add_argument("--layer-embd", type=int, default=0, metavar="N", help="values of a token's embedding for each layer")
    parser.add_argument("--values-are-keys", action="store_true", help="no attn_v in layers that attend to the whole text")
    parser.add_argument("--joined-gate", action="store_true", help="one matrix ssm_in, as old files of Qwen 3 Next have it")
    parser.add_argument("--rot", type=int, metavar="N", help="values of a head that rotate (default all)")
    parser.add_argument("--ctx-orig", type=int, metavar="N", help="context before rope scaling")
    parser.add_argument("--rope-scaling-type", metavar="TYPE", help="linear, yarn or longrope")
    parser.add_argument("--yarn-log-multiplier", type=float, metavar="X", help="of YaRN's magnitude")
    parser.add_argument("--yarn-attn-factor", type=float, metavar="X", help="as converters write it for OLMo 3")
    parser.add_argument("--rope-freq-base", type=float, default=10000, metavar="X", help="(default 10000)")
    parser.add_argument("--rope-scaling-factor", type=float, metavar="X", help="as files have it that name no scaling type")
    parser.add_argument("--rope-scale-linear", type=float, metavar="X", help="as old files have it")
    parser.add_argument("--norm-eps", type=float, default=1e-5, metavar="X", help="epsilon of the norms (default 1e-5)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default 1)")
    parser.add_argument("--residual-scale", type=float, default=1, metavar="X",
                        help="factor on all that is added to the hidden state; without post norms the logits stay what they are")
    parser.add_argument("--scale", type=float, default=1, metavar="X", help="factor on all matrices (default 1)")
    options = parser.parse_args(arguments)
    if min(options.layers, options.embd, options.heads, options.heads_kv, options.ff, options.ctx) < 1:
        parser.error("sizes are positive")
    if FAMILIES[options.arch].experts and not options.experts:
        parser.error(f"--arch {options.arch} needs --experts and --experts-used")
    if bool(options.experts) != bool(options.experts_used):
        parser.error("--experts and --experts-used go together")
    options.head_dim = options.head_dim or options.embd // options.heads
    options.head_dim_swa = options.head_dim_swa or options.head_dim
    options.heads_kv_swa = options.heads_kv_swa or options.heads_kv
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
