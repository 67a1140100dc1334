#!/usr/bin/env python3
"""Tests of damaged, absurd or malicious files: each ends with a one-line error and exit code 1, never with a crash."""

import concurrent.futures
import os
import pathlib
import random
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from hostile import gguf_writer as gguf  # noqa: E402
from support.cake_process import SANITIZED, InFolder, assert_refused, cake  # noqa: E402


class HostileFile(InFolder):
    def write(self, data, name="model.gguf"):
        return super().write(data, name)

    def use(self, data, name="model.gguf"):
        return cake("run", "-m", self.write(data, name), "-t", 1, "-p", "the cat", "-n", 2, "--temp", 0)

    def refuse(self, data, *words):
        assert_refused(self, self.use(data), "model.gguf", *words)

    def refuse_change(self, change, *words):
        model = gguf.valid()
        change(model)
        self.refuse(model.to_bytes(), *words)

    def refuse_metadata(self, key, value, *words):
        self.refuse_change(lambda model: model.metadata.update({key: value}), *words)

    def at_once(self, cases, check):
        """Runs many small cases in parallel, one per core, and reports the first that fails."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for case, result in zip(cases, pool.map(check, cases)):
                with self.subTest(case=case):
                    self.assertIsNone(result)


class NotAModel(HostileFile):
    def test_the_model_that_the_others_are_made_from_runs(self):
        result = self.use(gguf.valid().to_bytes())
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_no_such_file(self):
        assert_refused(self, cake("info", self.folder / "none.gguf"), "none.gguf: No such file or directory")

    def test_a_folder(self):
        assert_refused(self, cake("info", self.folder), "is a folder")

    def test_a_device(self):
        assert_refused(self, cake("info", "/dev/zero"), "is not a regular file")

    def test_an_empty_file(self):
        self.refuse(b"", "is empty")

    def test_a_text(self):
        self.refuse(b"Call me Ishmael. " * 100, "not a GGUF file")

    def test_a_big_endian_file(self):
        self.refuse(b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version")

    def test_an_old_version(self):
        self.refuse_change(lambda model: setattr(model, "version", 1), "GGUF version 1 is not supported")

    def test_another_architecture(self):
        self.refuse_metadata("general.architecture", (gguf.STRING, "mamba"), '"mamba"', "supported architectures: llama")

    def test_an_architecture_of_control_characters_stays_on_one_line(self):
        self.refuse_metadata("general.architecture", (gguf.STRING, "a\nb\x1b[31m"), "is not supported")

    def test_no_architecture(self):
        self.refuse_change(lambda model: model.metadata.pop("general.architecture"), "general.architecture is missing")

    def test_a_vocabulary_only_file(self):
        self.refuse_change(lambda model: model.tensors.clear(), "vocabulary", "no weights")

    def test_no_vocabulary(self):
        self.refuse_change(lambda model: model.metadata.pop("tokenizer.ggml.model"), "tokenizer.ggml.model")


class AbsurdSizes(HostileFile):
    def test_counts_of_the_header(self):
        for field in ("n_tensors", "n_kv"):
            for count in (1 << 60, (1 << 64) - 1, 1 << 21):
                with self.subTest(field=field, count=count):
                    self.refuse_change(lambda model: setattr(model, field, count), "the header claims", str(count))

    def test_one_more_entry_than_there_is(self):
        for field, entries in (("n_tensors", "tensors"), ("n_kv", "metadata")):
            with self.subTest(field=field):
                self.refuse_change(lambda model: setattr(model, field, len(getattr(model, entries)) + 1))

    def test_a_string_longer_than_the_file(self):
        for length in (1 << 20, 1 << 40, 1 << 62, (1 << 64) - 1):
            with self.subTest(length=length):
                self.refuse_metadata("general.name", struct.pack("<IQ", gguf.STRING, length) + b"x", "ends in")

    def test_an_array_longer_than_the_file(self):
        for kind in (gguf.U8, gguf.F64, gguf.STRING):
            for length in (1 << 30, 1 << 61, (1 << 64) - 1):
                with self.subTest(kind=kind, length=length):
                    self.refuse_metadata("general.tags", struct.pack("<IIQ", gguf.ARRAY, kind, length), "ends in")

    def test_an_array_of_arrays(self):
        self.refuse_metadata("general.tags", struct.pack("<IIQ", gguf.ARRAY, gguf.ARRAY, 1), "contains arrays")

    def test_an_unknown_type(self):
        self.refuse_metadata("general.name", struct.pack("<I", 77), "unknown type 77")

    def test_dimensions(self):
        for size in (0, -1, 1 << 62, 1 << 63, 1 << 40):
            with self.subTest(size=size):
                self.refuse_change(lambda model: model.tensors["output.weight"].shape.__setitem__(1, size))

    def test_a_product_of_dimensions_that_overflows(self):
        def change(model):
            model.tensors["output.weight"].shape = [1 << 32, 1 << 32, 1 << 32, 1 << 32]

        self.refuse_change(change, "output.weight", "too many elements")

    def test_number_of_dimensions(self):
        for n in (0, 5):
            with self.subTest(n=n):
                self.refuse_change(lambda model: setattr(model.tensors["output.weight"], "shape", [1] * n),
                                   "output.weight", f"{n} dimensions")

    def test_an_unknown_tensor_type(self):
        for kind in (4, 5, 31, 99, 0xFFFFFFFF):
            with self.subTest(kind=kind):
                self.refuse_change(lambda model: setattr(model.tensors["output.weight"], "kind", kind),
                                   "output.weight", "type")

    def test_a_tensor_type_that_no_product_takes(self):
        for kind in (24, 25, 26, 27, 28):  # i8 to i64, f64
            with self.subTest(kind=kind):
                self.refuse_change(lambda model: setattr(model.tensors["output_norm.weight"], "kind", kind))

    def test_rows_that_blocks_do_not_divide(self):
        def change(model):
            model.tensors["output.weight"].kind = 12  # q4_K, in blocks of 256

        self.refuse_change(change, "output.weight", "blocks of 256")

    def test_offsets(self):
        for offset, words in ((1 << 40, "truncated"), ((1 << 64) - 32, "truncated"), (7, "multiple of 32"), (0, "overlap")):
            with self.subTest(offset=offset):
                self.refuse_change(lambda model: setattr(model.tensors["output.weight"], "offset", offset), words)

    def test_alignment(self):
        for alignment in (0, 3, 1 << 31):
            with self.subTest(alignment=alignment):
                self.refuse_metadata("general.alignment", (gguf.U32, alignment), "power of two")
        self.refuse_metadata("general.alignment", (gguf.STRING, "32"), "power of two")

    def test_names(self):
        def rename(name):
            def change(model):
                model.tensors = {name if key == "output.weight" else key: t for key, t in model.tensors.items()}

            return change

        self.refuse_change(rename(""), "tensor name")
        self.refuse_change(rename("x" * 64), "tensor name")
        self.refuse_change(rename("a\nb"), "a?b")

    def test_an_entry_that_stands_twice(self):
        model = gguf.valid()
        data = model.to_bytes()
        self.refuse(data.replace(b"general.name", b"general.nama").replace(b"llama.context_length", b"llama.block_count\0\0\0"))
        self.refuse(data.replace(b"blk.1.ffn_up", b"blk.0.ffn_up"), "occurs twice")


class WrongModel(HostileFile):
    def test_sizes_that_do_not_match_the_tensors(self):
        for key, value in (("block_count", 3), ("block_count", 1), ("embedding_length", 64),
                           ("feed_forward_length", 64), ("attention.head_count_kv", 2), ("rope.dimension_count", 18),
                           ("attention.key_length", 32), ("attention.value_length", 8)):
            with self.subTest(key=key, value=value):
                self.refuse_metadata(f"llama.{key}", (gguf.U32, value))

    def test_absurd_sizes(self):
        for key in ("block_count", "embedding_length", "feed_forward_length", "attention.head_count",
                    "attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.dimension_count",
                    "context_length"):
            for value in (0, (1 << 31), (1 << 32) - 1):
                with self.subTest(key=key, value=value):
                    self.refuse_metadata(f"llama.{key}", (gguf.U32, value), key)

    def test_heads_that_do_not_divide(self):
        self.refuse_metadata("llama.attention.head_count", (gguf.U32, 3), "head_count")
        self.refuse_change(lambda model: model.metadata.update({"llama.attention.head_count": (gguf.U32, 4),
                                                                "llama.attention.head_count_kv": (gguf.U32, 3)}),
                           "not a multiple of attention.head_count_kv")

    def test_values_that_would_change_what_is_computed(self):
        for key, value in (("rope.scaling.yarn_log_multiplier", (gguf.F32, 0.5)), ("rope.scaling.type", (gguf.STRING, "su")),
                           ("attention.causal", (gguf.BOOL, 0)), ("attention.clamp_kqv", (gguf.F32, 8.0)),
                           ("attention.scale", (gguf.F32, 0.1)), ("attention.sliding_window", (gguf.U32, 64)),
                           ("something.new", (gguf.U32, 1))):
            with self.subTest(key=key):
                self.refuse_metadata(f"llama.{key}", value, f"llama.{key}")

    def test_experts_that_cannot_be(self):
        def change(**values):
            return lambda model: model.metadata.update({f"llama.{key}": (gguf.U32, value) for key, value in values.items()})

        self.refuse_change(change(expert_count=4), "expert_used_count is missing")
        self.refuse_change(change(expert_count=4, expert_used_count=5), "expert_used_count is 5", "1 to 4")
        self.refuse_change(change(expert_count=1 << 31, expert_used_count=1), "expert_count")
        self.refuse_change(change(expert_count=4, expert_used_count=2, expert_shared_count=1), "expert_shared_count")
        self.refuse_change(change(expert_count=4, expert_used_count=2), "ffn_gate_inp.weight is missing")

    def of_family(self, name, metadata):
        """The valid model under another architecture, with further metadata."""
        model = gguf.valid()
        model.metadata = {key.replace("llama.", name + "."): entry for key, entry in model.metadata.items()}
        model.metadata.update({"general.architecture": (gguf.STRING, name)})
        model.metadata.update({f"{name}.{key}": value for key, value in metadata.items()})
        return model.to_bytes()

    def test_groups_of_experts_that_cannot_be(self):
        def refuse(n, used, groups, groups_used, *words):
            counts = {"expert_count": n, "expert_used_count": used, "expert_group_count": groups,
                      "expert_group_used_count": groups_used}
            self.refuse(self.of_family("bailingmoe2", {key: (gguf.U32, value) for key, value in counts.items()}), *words)

        refuse(8, 2, 3, 1, "expert_group_count 3")
        refuse(8, 2, 8, 2, "expert_group_count 8")
        refuse(8, 5, 4, 2, "expert_group_used_count 2")
        refuse(8, 2, 4, 5, "expert_group_used_count is 5", "0 to 4")
        refuse(8, 2, 1 << 31, 1, "expert_group_count")

    def test_layers_for_further_tokens_that_cannot_be(self):
        for n in (2, 3, (1 << 32) - 1):
            self.refuse(self.of_family("glm4moe", {"nextn_predict_layers": (gguf.U32, n)}), "nextn_predict_layers")
        self.refuse_metadata("llama.nextn_predict_layers", (gguf.U32, 1), "nextn_predict_layers is 1: only 0")

    def test_latent_attention_that_cannot_be(self):
        for change, word in (({}, "kv_lora_rank is missing"),
                             ({"attention.kv_lora_rank": (gguf.U32, 16)}, "key_length_mla is missing"),
                             ({"attention.kv_lora_rank": (gguf.U32, 16), "attention.key_length_mla": (gguf.U32, 24),
                               "attention.value_length_mla": (gguf.U32, 16)}, "do not fit together")):
            with self.subTest(change=change):
                self.refuse(self.of_family("deepseek2", change), word)

    def test_recurrent_layers_that_cannot_be(self):
        sizes = {"ssm.conv_kernel": 4, "ssm.group_count": 2, "ssm.time_step_rank": 4, "ssm.state_size": 8, "ssm.inner_size": 32}
        fields = {key: (gguf.U32, value) for key, value in sizes.items()}
        fields["rope.dimension_sections"] = (gguf.ARRAY, gguf.I32, [1, 1, 1, 0])
        for change, word in (({"ssm.inner_size": (gguf.U32, 33)}, "do not fit together"),
                             ({"ssm.group_count": (gguf.U32, 3)}, "do not fit together"),
                             ({"ssm.conv_kernel": (gguf.U32, 1 << 31)}, "conv_kernel"),
                             ({"ssm.state_size": (gguf.U32, 4096), "ssm.time_step_rank": (gguf.U32, 128),
                               "ssm.inner_size": (gguf.U32, 1 << 19), "full_attention_interval": (gguf.U32, 2)}, "numbers"),
                             ({"full_attention_interval": (gguf.U32, 5)}, "no layer attends"),
                             ({"attention.value_length": (gguf.U32, 4)}, "value_length differ"),
                             ({"attention.recurrent_layers": (gguf.ARRAY, gguf.BOOL, [1])}, "1 flags for 2 layers")):
            with self.subTest(change=change):
                self.refuse(self.of_family("qwen35", {**fields, **change}), word)
        for heads in ([1], [0, 0, 0], [1, 2], [-1, 1], [0, 1 << 30]):
            self.refuse(self.of_family("lfm2", {"attention.head_count_kv": (gguf.ARRAY, gguf.I32, heads),
                                                "shortconv.l_cache": (gguf.U32, 3)}), "head")
        self.refuse(self.of_family("lfm2", {"attention.head_count_kv": (gguf.ARRAY, gguf.F32, [0.0, float("nan")])}), "head_count_kv")

    def test_mamba_layers_that_cannot_be(self):
        sizes = {"ssm.conv_kernel": 4, "ssm.group_count": 1, "ssm.time_step_rank": 4, "ssm.state_size": 8, "ssm.inner_size": 32}
        fields = {key: (gguf.U32, value) for key, value in sizes.items()}
        fields["attention.head_count_kv"] = (gguf.ARRAY, gguf.I32, [0, 1])
        for key in sizes:
            with self.subTest(missing=key):
                self.refuse(self.of_family("granitehybrid", {other: value for other, value in fields.items() if other != key}),
                            f"{key} is missing")
        for change, word in (({"ssm.inner_size": (gguf.U32, 33)}, "do not fit together"),
                             ({"ssm.group_count": (gguf.U32, 3)}, "do not fit together"),
                             ({"ssm.state_size": (gguf.U32, 4096), "ssm.inner_size": (gguf.U32, 1 << 19)}, "numbers"),
                             ({"attention.head_count_kv": (gguf.ARRAY, gguf.I32, [0, 0])}, "no layer attends"),
                             ({}, "ssm_conv1d.weight is missing")):
            with self.subTest(change=change):
                self.refuse(self.of_family("granitehybrid", {**fields, **change}), word)

    def test_kinds_of_layers_that_cannot_be(self):
        fields = {"attention.sliding_window": (gguf.U32, 4), "attention.sliding_window_pattern": (gguf.ARRAY, gguf.BOOL, [1, 0])}
        for change, word in (({"attention.shared_kv_layers": (gguf.U32, 1)}, "shared_kv_layers is 1"),
                             ({"attention.shared_kv_layers": (gguf.U32, 2)}, "shared_kv_layers is 2"),
                             ({"attention.head_count_kv": (gguf.ARRAY, gguf.I32, [3, 2])}, "not a multiple"),
                             ({"attention.head_count_kv": (gguf.ARRAY, gguf.I32, [1])}, "1 numbers for 2 layers"),
                             ({"attention.key_length_swa": (gguf.U32, 4)}, "key_length and attention.value_length differ"),
                             ({"rope.dimension_count_swa": (gguf.U32, 3)}, "dimension_count_swa 3 must be even"),
                             ({"embedding_length_per_layer_input": (gguf.U32, 1 << 31)}, "embedding_length_per_layer_input"),
                             ({"embedding_length_per_layer_input": (gguf.U32, 8)}, "per_layer_token_embd.weight is missing"),
                             ({"feed_forward_length": (gguf.ARRAY, gguf.I32, [32, 0])}, "is 0"),
                             ({"attention.sliding_window_pattern": (gguf.ARRAY, gguf.BOOL, [1, 1])}, "no layer attends"),
                             ({"attention.sliding_window_pattern": (gguf.ARRAY, gguf.BOOL, [1])}, "1 flags for 2 layers"),
                             ({"attention.sliding_window_pattern": (gguf.U32, 6)}, "no layer attends"),
                             ({}, "rope_freqs.weight is missing")):
            with self.subTest(change=change):
                self.refuse(self.of_family("gemma4", {**fields, **change}), word)
        self.refuse(self.of_family("gemma4", {"attention.sliding_window": (gguf.U32, 4)}), "no layer attends")

    def test_blocks_that_cannot_be(self):
        sizes = {"ssm.conv_kernel": 4, "ssm.group_count": 1, "ssm.time_step_rank": 4, "ssm.state_size": 8, "ssm.inner_size": 32}
        fields = {key: (gguf.U32, value) for key, value in sizes.items()}
        for widths, heads, word in (([32, 0], [0, 2], "block 0 is a feed-forward"), ([0, 0], [0, 0], "no layer attends"),
                                    ([0, -1], [1, 0], "is -1"), ([0, 0], [1, 0], "ssm_conv1d.weight is missing"),
                                    ([0, 32], [1, 0], "is not one that")):
            with self.subTest(widths=widths, heads=heads):
                self.refuse(self.of_family("nemotron_h", {**fields, "feed_forward_length": (gguf.ARRAY, gguf.I32, widths),
                                                          "attention.head_count_kv": (gguf.ARRAY, gguf.I32, heads)}), word)

    def test_sizes_that_differ_between_layers(self):
        for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
            for values, word in (([1, 2], "differs between layers"), ([1], "1 numbers for 2 layers"), ([-1, -1], "is -1"),
                                 ([1 << 30, 1 << 30], f"is {1 << 30}")):
                with self.subTest(key=key, values=values):
                    self.refuse_metadata(f"llama.{key}", (gguf.ARRAY, gguf.I32, values), key, word)

    def test_sections_and_activations_that_cannot_be(self):
        sections = "rope.dimension_sections"
        self.refuse(self.of_family("qwen2vl", {}), sections)
        for widths in ([], [1, 2], [0, 0, 0, 0], [1, 2, 3, -1], [1 << 30, 1, 1, 1], [1] * 5):
            self.refuse(self.of_family("qwen2vl", {sections: (gguf.ARRAY, gguf.I32, widths)}), sections, "widths")
        self.refuse(self.of_family("qwen2vl", {sections: (gguf.U32, 4)}), sections)
        self.refuse(self.of_family("apertus", {}), "xielu.alpha_n must be")

    def test_windows_that_cannot_be(self):
        def refuse(key, value, *words):
            self.refuse(self.of_family("gemma2", {key: value}), *words)

        pattern = "attention.sliding_window_pattern"
        refuse(pattern, (gguf.ARRAY, gguf.BOOL, [1, 0, 1]), "3 flags for 2 layers")
        refuse(pattern, (gguf.ARRAY, gguf.BOOL, [1, 1]), "no layer attends to the whole text")
        refuse(pattern, (gguf.ARRAY, gguf.F32, [1.0, 0.0]), "array of bools")
        refuse(pattern, (gguf.U32, 0), pattern)
        refuse("attention.sliding_window", (gguf.U32, (1 << 32) - 1), "sliding_window")
        refuse("attn_logit_softcapping", (gguf.F32, -1.0), "must be positive")

    def test_files_of_every_family_that_are_damaged_at_random(self):
        folder = pathlib.Path(os.environ["CAKE_TEST_MODELS"])
        generator = random.Random(5)
        cases = []
        for name in ("mixtral", "qwen3moe", "gemma2", "gemma3", "phi3", "gpt2", "gpt-oss", "granite", "olmo3", "mistral3", "qwen2moe",
                     "qwen3vl", "glm4moe", "deepseek2", "bailingmoe2", "afmoe", "exaone4-swa", "smallthinker", "apertus", "cohere2"):
            data = (folder / f"{name}.gguf").read_bytes()
            for i in range(5):
                # An offset among the architecture's values, which come before the vocabulary.
                at = generator.randrange(64, data.index(b"tokenizer.ggml.model"))
                bytes_there = bytes(generator.choice((0, 1, 0x7F, 0x80, 0xFF)) for _ in range(generator.randrange(1, 5)))
                cases.append((f"{name}-{i}.gguf", data[:at] + bytes_there + data[at + len(bytes_there):]))

        def check(case):
            result = self.use(case[1], case[0])
            if result.returncode not in (0, 1):
                return f"{case[0]}: {result.returncode}: {result.stderr}"
            return None

        for name, failure in zip([case[0] for case in cases], map(check, cases)):
            with self.subTest(case=name):
                self.assertIsNone(failure)

    def test_numbers_that_are_none(self):
        for key in ("attention.layer_norm_rms_epsilon", "rope.freq_base"):
            for value in (float("nan"), float("inf"), -1.0, 0.0):
                with self.subTest(key=key, value=value):
                    self.refuse_metadata(f"llama.{key}", (gguf.F32, value), key)

    def test_values_of_another_type(self):
        for key in ("llama.block_count", "llama.rope.freq_base", "general.architecture"):
            for value in ((gguf.ARRAY, gguf.U32, [2, 2]), (gguf.BOOL, 1)):
                with self.subTest(key=key, value=value):
                    self.refuse_metadata(key, value, key)
        self.refuse_metadata("llama.block_count", (gguf.I32, -2), "cannot be negative")

    def test_a_missing_value(self):
        for key in ("block_count", "embedding_length", "attention.head_count", "attention.layer_norm_rms_epsilon"):
            with self.subTest(key=key):
                self.refuse_change(lambda model: model.metadata.pop(f"llama.{key}"), key, "missing")

    def test_a_missing_tensor(self):
        for name in gguf.valid().tensors:
            if name == "output.weight":
                continue  # the embeddings are used instead
            with self.subTest(name=name):
                self.refuse_change(lambda model: model.tensors.pop(name), name, "is missing")

    def test_a_wrong_shape(self):
        for name in gguf.valid().tensors:
            with self.subTest(name=name):
                def change(model):
                    shape = model.tensors[name].shape
                    model.tensors[name].shape = [shape[0] // 2, *shape[1:], 2][: max(len(shape), 2)]

                self.refuse_change(change)

    def test_a_tensor_that_nothing_uses(self):
        self.refuse_change(lambda model: model.tensors.update({"blk.0.ffn_gate_exps.weight": gguf.Tensor([1], data=bytes(4))}),
                           "blk.0.ffn_gate_exps.weight")


class WrongVocabulary(HostileFile):
    def test_lengths_and_types(self):
        for key in ("tokens", "scores", "token_type"):
            for value in ((gguf.ARRAY, gguf.U8, [1]), (gguf.U32, 1), (gguf.ARRAY, gguf.STRING, []),
                          (gguf.ARRAY, gguf.F32, [1.0]), (gguf.ARRAY, gguf.I32, [1])):
                with self.subTest(key=key, value=value):
                    self.refuse_metadata(f"tokenizer.ggml.{key}", value)

    def test_a_token_that_stands_twice(self):
        def change(model):
            model.metadata["tokenizer.ggml.tokens"][2][5] = "<0x00>"

        self.refuse_change(change, "twice")

    def test_an_empty_token_and_one_of_the_name_that_libllama_gives_it(self):
        def change(model):
            texts = model.metadata["tokenizer.ggml.tokens"][2]
            texts[265], texts[266] = "", "[EMPTY_265]"

        self.refuse_change(change, "twice")

    def test_first_and_last_tokens_that_are_none(self):
        def byte_pairs(model, key):
            letters = ["a", "b", "ab", "c"]  # fewer than libllama's default token numbers
            model.metadata["tokenizer.ggml.model"] = (gguf.STRING, "gpt2")
            model.metadata["tokenizer.ggml.tokens"] = (gguf.ARRAY, gguf.STRING, letters)
            model.metadata["tokenizer.ggml.merges"] = (gguf.ARRAY, gguf.STRING, ["a b"])
            model.metadata[f"tokenizer.ggml.add_{key}_token"] = (gguf.BOOL, True)
            for name in ("scores", "token_type", "bos_token_id", "eos_token_id", "unknown_token_id"):
                del model.metadata[f"tokenizer.ggml.{name}"]

        for key in ("bos", "eos"):
            with self.subTest(key=key):
                self.refuse_change(lambda model: byte_pairs(model, key))

    def test_a_vocabulary_of_one_token(self):
        def change(model):
            for key, value in {"tokens": "x", "scores": 0.0, "token_type": 1}.items():
                kind = model.metadata[f"tokenizer.ggml.{key}"][1]
                model.metadata[f"tokenizer.ggml.{key}"] = (gguf.ARRAY, kind, [value])

        self.refuse_change(change)

    def test_more_tokens_than_embeddings(self):
        self.refuse_change(lambda model: model.metadata["tokenizer.ggml.tokens"][2].append("more"))

    def test_another_tokenizer(self):
        for name in ("bert", "none", "", "rwkv", "plamo2"):
            with self.subTest(name=name):
                self.refuse_metadata("tokenizer.ggml.model", (gguf.STRING, name), "tokenizer")

    def test_a_byte_pair_vocabulary_without_merges_or_bytes(self):
        self.refuse_metadata("tokenizer.ggml.model", (gguf.STRING, "gpt2"))

    def test_special_tokens_out_of_range_are_survived(self):
        for key in ("bos_token_id", "eos_token_id", "unknown_token_id", "eot_token_id", "padding_token_id"):
            for value in (272, 1 << 31, (1 << 32) - 1):
                with self.subTest(key=key, value=value):
                    model = gguf.valid()
                    model.metadata[f"tokenizer.ggml.{key}"] = (gguf.U32, value)
                    self.assertIn(self.use(model.to_bytes()).returncode, (0, 1))

    def test_special_tokens_of_another_type_are_survived(self):
        for key in ("bos_token_id", "add_bos_token", "add_space_prefix", "precompiled_charsmap", "pre"):
            for value in ((gguf.STRING, "x"), (gguf.ARRAY, gguf.U32, [1]), (gguf.F64, 1.0), (gguf.U64, 1)):
                with self.subTest(key=key, value=value):
                    model = gguf.valid()
                    model.metadata[f"tokenizer.ggml.{key}"] = value
                    self.assertIn(self.use(model.to_bytes()).returncode, (0, 1))


class DamagedFile(HostileFile):
    def test_cut_anywhere(self):
        data = gguf.valid().to_bytes()
        generator = random.Random(1)
        metadata_end = data.index(b"token_embd.weight")
        cuts = sorted({*range(1, 64), *generator.sample(range(64, metadata_end), 100),
                       *generator.sample(range(metadata_end, len(data)), 160), len(data) - 1, len(data) - 33})
        self.assertGreaterEqual(len(cuts), 300)

        def check(cut):
            try:
                result = self.use(data[:cut], f"model.gguf.{cut}")
                assert_refused(self, result, f"model.gguf.{cut}")
            except AssertionError as error:
                return str(error)

        self.at_once(cuts, check)

    def test_any_byte_changed(self):
        """The output may be anything, but the run ends with an exit code, not a signal, and a refusal is one line."""
        data = gguf.valid().to_bytes()
        data_begin = data.index(b"token_embd.weight")
        seeds = range(150 if SANITIZED else 600)

        def mutate(seed):
            rng = random.Random(seed)
            changed = bytearray(data)
            for _ in range(rng.choice((1, 1, 1, 2, 8))):
                # Nearly all of the structure is before the weights.
                end = len(data) if rng.random() < 0.1 else data_begin + 1600
                at = rng.randrange(4, end)
                changed[at] = rng.choice((changed[at] ^ (1 << rng.randrange(8)), 0, 255, rng.randrange(256)))
            return bytes(changed)

        def check(seed):
            result = self.use(mutate(seed), f"model.gguf.{seed}")
            if result.returncode == 0:
                return None
            try:
                assert_refused(self, result, "model.gguf")
            except AssertionError as error:
                return str(error)

        self.at_once(seeds, check)


if __name__ == "__main__":
    unittest.main()
