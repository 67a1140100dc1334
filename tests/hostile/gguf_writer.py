"""Writes invalid GGUF files: every count, type, size and offset can be set to a wrong value."""

import dataclasses
import random
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORMATS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
GGML_F32 = 0


def u64(value):
    return struct.pack("<Q", value % (1 << 64))


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


@dataclasses.dataclass
class Tensor:
    shape: list  # ggml's order, fastest first
    kind: int = GGML_F32
    offset: int | None = None  # None: after the previous tensor
    data: bytes = b""


@dataclasses.dataclass
class Gguf:
    metadata: dict  # key: (kind, value), or (ARRAY, kind, values), or raw bytes
    tensors: dict
    magic: bytes = b"GGUF"
    version: int = 3
    n_tensors: int | None = None
    n_kv: int | None = None
    alignment: int = 32

    def to_bytes(self):
        n_tensors = len(self.tensors) if self.n_tensors is None else self.n_tensors
        n_kv = len(self.metadata) if self.n_kv is None else self.n_kv
        out = bytearray(self.magic + struct.pack("<I", self.version) + u64(n_tensors) + u64(n_kv))
        for key, value in self.metadata.items():
            out += string(key) + self.value(value)
        data = bytearray()
        for name, tensor in self.tensors.items():
            out += string(name) + struct.pack("<I", len(tensor.shape)) + b"".join(map(u64, tensor.shape))
            out += struct.pack("<I", tensor.kind) + u64(len(data) if tensor.offset is None else tensor.offset)
            data += tensor.data
            data += bytes(-len(data) % self.alignment)
        out += bytes(-len(out) % self.alignment)
        return bytes(out + data)

    @staticmethod
    def value(value):
        if isinstance(value, bytes):
            return value
        if value[0] == ARRAY:
            _, kind, values = value
            return struct.pack("<II", ARRAY, kind) + u64(len(values)) + b"".join(scalar(kind, v) for v in values)
        return struct.pack("<I", value[0]) + scalar(*value)


def valid(n_layer=2, n_embd=32, n_head=2, n_ff=32, n_vocab=272):
    """Returns the smallest model that runs, with seeded random weights and a byte vocabulary."""
    generator = random.Random(7)
    n_kv = n_embd // n_head  # one K/V head

    def tensor(*shape):
        n = 1
        for size in shape:
            n *= size
        return Tensor(list(shape), data=struct.pack(f"<{n}f", *(generator.gauss(0, 0.1) for _ in range(n))))

    tensors = {"token_embd.weight": tensor(n_embd, n_vocab), "output_norm.weight": tensor(n_embd),
               "output.weight": tensor(n_embd, n_vocab)}
    for layer in range(n_layer):
        block = f"blk.{layer}."
        tensors |= {
            block + "attn_norm.weight": tensor(n_embd),
            block + "attn_q.weight": tensor(n_embd, n_embd),
            block + "attn_k.weight": tensor(n_embd, n_kv),
            block + "attn_v.weight": tensor(n_embd, n_kv),
            block + "attn_output.weight": tensor(n_embd, n_embd),
            block + "ffn_norm.weight": tensor(n_embd),
            block + "ffn_gate.weight": tensor(n_embd, n_ff),
            block + "ffn_up.weight": tensor(n_embd, n_ff),
            block + "ffn_down.weight": tensor(n_ff, n_embd),
        }
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts += ["\u2581" + letter for letter in "etaoinshrdlucm"][: n_vocab - len(texts)]
    metadata = {
        "general.architecture": (STRING, "llama"),
        "general.name": (STRING, "small"),
        "llama.block_count": (U32, n_layer),
        "llama.context_length": (U32, 128),
        "llama.embedding_length": (U32, n_embd),
        "llama.feed_forward_length": (U32, n_ff),
        "llama.attention.head_count": (U32, n_head),
        "llama.attention.head_count_kv": (U32, 1),
        "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
        "llama.rope.dimension_count": (U32, n_embd // n_head),
        "llama.rope.freq_base": (F32, 10000.0),
        "tokenizer.ggml.model": (STRING, "llama"),
        "tokenizer.ggml.tokens": (ARRAY, STRING, texts),
        "tokenizer.ggml.scores": (ARRAY, F32, [-float(i) for i in range(len(texts))]),
        "tokenizer.ggml.token_type": (ARRAY, I32, [2, 3, 3] + [6] * 256 + [1] * (len(texts) - 259)),
        "tokenizer.ggml.bos_token_id": (U32, 1),
        "tokenizer.ggml.eos_token_id": (U32, 2),
        "tokenizer.ggml.unknown_token_id": (U32, 0),
    }
    return Gguf(metadata, tensors)
