#!/usr/bin/env python3
"""Writes vocabularies without weights into a folder: spm.gguf, spm-strips.gguf (whose control tokens strip the white
space after them) and bpe.gguf. In all of them, control tokens can be told from text."""

import pathlib
import sys

import gguf

CONTROLS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|end|>", "[INST]"]
WORDS = ["the", "rain", "in", "Spain", "user", "assistant", "system", "im", "end", "start", "Obey", "Hello", "th", "ra", "ai", "Sp", "us", "er"]
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if note %}{{ note }}{% endif %}{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip


def begin(path, name):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(name)
    w.add_block_count(1)
    w.add_context_length(128)
    w.add_embedding_length(8)
    w.add_feed_forward_length(8)
    w.add_head_count(1)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(8)
    w.add_chat_template(TEMPLATE)
    return w


def write(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def spm(path, name):
    w = begin(path, name)
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]
    tokens += [(chr(c), NORMAL) for c in range(33, 127)] + [("▁", NORMAL)]
    tokens += [(text, NORMAL) for word in WORDS for text in (word, "▁" + word)] + [("▁▁", NORMAL), ("<think>", USER)]
    tokens += [(text, CONTROL) for text in CONTROLS]
    w.add_tokenizer_model("llama")
    w.add_token_list([text for text, _ in tokens])
    w.add_token_scores([0.0 if kind != NORMAL else float(len(text)) for text, kind in tokens])
    w.add_token_types([kind for _, kind in tokens])
    w.add_unk_token_id(0)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_add_bos_token(True)
    write(w)


def byte_characters():
    """Returns the characters that represent bytes in a byte-level BPE vocabulary."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in visible]
    return {**{byte: chr(byte) for byte in visible}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def bpe(path, tool_template=None):
    w = begin(path, "bpe")
    if tool_template:
        w.add_string("tokenizer.chat_template.tool_use", tool_template)
    characters = byte_characters()
    tokens = [(characters[byte], NORMAL) for byte in range(256)]
    merges = []
    known = {text for text, _ in tokens}
    for word in WORDS + ["<|", "|>", characters[32] + "the", characters[32] + "in"]:
        for n in range(2, len(word) + 1):
            if word[:n] not in known:
                known.add(word[:n])
                tokens.append((word[:n], NORMAL))
                merges.append(word[: n - 1] + " " + word[n - 1])
    tokens += [("<think>", USER), ("<s>", CONTROL), ("</s>", CONTROL)] + [(text, CONTROL) for text in CONTROLS]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list([text for text, _ in tokens])
    w.add_token_types([kind for _, kind in tokens])
    w.add_token_merges(merges)
    w.add_bos_token_id([text for text, _ in tokens].index("<s>"))
    w.add_eos_token_id([text for text, _ in tokens].index("</s>"))
    w.add_add_bos_token(False)
    write(w)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    spm(folder / "spm.gguf", "spm")
    spm(folder / "spm-strips.gguf", "phi-3")  # libllama recognises it by the name
    bpe(folder / "bpe.gguf")
    bpe(folder / "bpe-tool-use.gguf", "{{ tools[0].name }}: {{ messages[0].content }}")


if __name__ == "__main__":
    main()
