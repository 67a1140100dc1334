#!/usr/bin/env python3
"""Tests of models split over several GGUF files: complete ones run; for incomplete ones, the error names the file."""

import json
import pathlib
import shutil
import subprocess
import sys
import unittest

from gguf import GGUFReader

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from hostile import gguf_writer as gguf  # noqa: E402
from support.cake_process import MODELS, WORDS, InFolder, assert_refused, cake, report  # noqa: E402

N_PARTS = 3
NAMES = [f"small-{no:05}-of-{N_PARTS:05}.gguf" for no in range(1, N_PARTS + 1)]


def split(model, n_parts=N_PARTS):
    """Splits a model as llama-gguf-split does: the first part has the metadata of the model."""
    names = list(model.tensors)
    parts = []
    for no in range(n_parts):
        own = {"split.no": (gguf.U16, no), "split.count": (gguf.U16, n_parts),
               "split.tensors.count": (gguf.I32, len(names))}
        some = names[no * len(names) // n_parts:(no + 1) * len(names) // n_parts]
        parts.append(gguf.Gguf({**(model.metadata if no == 0 else {}), **own}, {name: model.tensors[name] for name in some}))
    return parts


class Folder(InFolder):
    def use(self, name=NAMES[0], *flags):
        return cake("run", "-m", self.folder / name, "-t", 1, "-p", "the cat", "-n", 4, "--temp", 0, *flags)


class Whole(Folder):
    def split(self, name, *flags):
        """Splits a model with llama.cpp's own tool and returns the path of the first part."""
        subprocess.run(["llama-gguf-split", "--split", *flags, MODELS / f"{name}.gguf", self.folder / name], check=True,
                       capture_output=True)
        parts = sorted(self.folder.glob(f"{name}-*.gguf"))
        self.assertGreater(len(parts), 1)
        return parts[0]

    def test_computes_the_same_as_in_one_file(self):
        for model in ("f32", "q4_0", "mixtral-q8_0"):
            first = self.split(model, "--split-max-tensors", "10")
            for flags in ((), ("--no-repack",)):
                with self.subTest(model=model, flags=flags):
                    whole, parts = (
                        json.loads(cake("run", "-m", path, "-t", 1, "--temp", 0, "-n", 24, "--ignore-eos", "--json", "-p", WORDS,
                                        "--kv-budget", 96, *flags).stdout) for path in (MODELS / f"{model}.gguf", first))
                    for field in ("tokens", "layers", "prompt_tokens"):
                        self.assertEqual(parts[field], whole[field])

    def test_a_first_part_without_tensors(self):
        first = self.split("q8_0", "--split-max-tensors", "30", "--no-tensor-first-split")
        result = cake("run", "-m", first, "-t", 1, "-p", WORDS, "-n", 4, "--temp", 0, "--ignore-eos", "--json")
        self.assertEqual(json.loads(result.stdout)["tokens"], report("-p", WORDS, "-n", 4, model="q8_0")["tokens"])

    def test_info_tells_of_all_parts(self):
        first = self.split("q4_0", "--split-max-tensors", "30")
        whole, parts = (json.loads(cake("info", path, "--json").stdout) for path in (MODELS / "q4_0.gguf", first))
        n_files = len(list(self.folder.iterdir()))
        self.assertEqual((whole.pop("files"), parts.pop("files")), (1, n_files))
        self.assertNotEqual(whole.pop("model"), parts.pop("model"))
        self.assertEqual(parts, whole)
        self.assertIn(f"-00001-of-{n_files:05}.gguf and {n_files - 1} more", cake("info", first).stdout.decode())

    def test_another_part_names_the_first(self):
        first = self.split("f32", "--split-max-tensors", "30")
        last = sorted(self.folder.iterdir())[-1]
        for command in (("info", last), ("run", "-m", last, "-p", "a")):
            assert_refused(self, cake(*command), last.name, f"pass the first, {first}")

    def test_a_session_is_of_all_parts(self):
        first = self.split("f32", "--split-max-tensors", "30")
        session = self.folder / "a.session"
        saved = cake("run", "-m", first, "-t", 1, "-p", WORDS, "-n", 0, "--save-session", session)
        self.assertEqual(saved.returncode, 0, saved.stderr)
        load = ("run", "-m", first, "-t", 1, "--load-session", session, "-n", 2)
        self.assertEqual(cake(*load).returncode, 0)
        # Simulate the last part of another fine-tuned model: the same shapes, but another value in the last tensor.
        last = sorted(self.folder.glob("f32-*.gguf"))[-1]
        place = GGUFReader(last).tensors[-1].data_offset
        data = bytearray(last.read_bytes())
        data[place] ^= 1
        last.write_bytes(data)
        assert_refused(self, cake(*load), "another model")


class Incomplete(Folder):
    def setUp(self):
        super().setUp()
        self.parts = split(gguf.valid())
        self.write()

    def write(self):
        for name, part in zip(NAMES, self.parts, strict=True):
            (self.folder / name).write_bytes(part.to_bytes())

    def refuse(self, *words, name=NAMES[0]):
        assert_refused(self, self.use(name), *words)

    def change(self, no, key, value):
        self.parts[no].metadata[key] = value
        self.write()

    def test_the_parts_that_the_others_are_made_from_run(self):
        result = self.use()
        self.assertEqual(result.returncode, 0, result.stderr)
        (self.folder / "whole.gguf").write_bytes(gguf.valid().to_bytes())
        self.assertEqual(result.stdout, self.use("whole.gguf").stdout)

    def test_a_part_is_missing(self):
        for no in (1, 2):
            with self.subTest(no=no):
                self.write()
                (self.folder / NAMES[no]).unlink()
                self.refuse(f"part {no + 1} of 3", NAMES[no], "No such file")

    def test_a_part_is_something_else(self):
        for data, words in ((b"", "is empty"), (b"Call me Ishmael.", "not a GGUF file"),
                            (self.parts[1].to_bytes()[:-100], "truncated or damaged")):
            with self.subTest(words=words):
                (self.folder / NAMES[1]).write_bytes(data)
                self.refuse("part 2 of 3", NAMES[1], words)
        (self.folder / NAMES[1]).unlink()
        (self.folder / NAMES[1]).mkdir()
        self.refuse("part 2 of 3", NAMES[1], "is a folder")

    def test_parts_in_each_other_s_place(self):
        shutil.copy(self.folder / NAMES[1], self.folder / NAMES[2])
        self.refuse(NAMES[2], "part 2 of 3", "part 3 of 3")

    def test_a_part_of_a_model_in_more_parts(self):
        self.change(2, "split.count", (gguf.U16, 4))
        self.refuse(NAMES[2], "part 3 of 4", "part 3 of 3")

    def test_a_whole_model_in_the_place_of_a_part(self):
        (self.folder / NAMES[1]).write_bytes(gguf.valid().to_bytes())
        self.refuse(NAMES[1], "part 1 of 1", "part 2 of 3")

    def test_a_first_part_with_another_name(self):
        for name in ("model.gguf", "small-00001-of-00004.gguf", "small-00002-of-00003.gguf.gguf"):
            with self.subTest(name=name):
                shutil.copy(self.folder / NAMES[0], self.folder / name)
                self.refuse(name, "-00001-of-00003.gguf", name=name)

    def test_another_part_with_another_name(self):
        shutil.copy(self.folder / NAMES[1], self.folder / "model.gguf")
        self.refuse("model.gguf", "part 2 of 3", "-00001-of-00003.gguf", name="model.gguf")

    def test_numbers_that_cannot_be(self):
        for key, kind, value in (("split.no", gguf.U16, 3), ("split.no", gguf.I32, -1), ("split.no", gguf.STRING, "1"),
                                 ("split.count", gguf.U32, 100_000), ("split.count", gguf.U32, (1 << 32) - 1),
                                 ("split.count", gguf.F32, 3.0), ("split.tensors.count", gguf.I32, -1)):
            for no in (0, 1):
                with self.subTest(key=key, kind=kind, value=value, no=no):
                    self.parts = split(gguf.valid())
                    self.change(no, key, (kind, value))
                    self.refuse(NAMES[no], key if kind != gguf.U16 else "split.no")

    def test_a_count_of_parts_without_a_number(self):
        del self.parts[0].metadata["split.no"]
        self.write()
        self.refuse(NAMES[0], "split.no")

    def test_a_count_of_one_is_a_whole_model(self):
        whole = gguf.valid()
        whole.metadata["split.count"] = (gguf.U16, 1)
        (self.folder / "one.gguf").write_bytes(whole.to_bytes())
        self.assertEqual(self.use("one.gguf").returncode, 0)

    def test_more_parts_than_there_are_files(self):
        self.change(0, "split.count", (gguf.U16, 65535))
        shutil.move(self.folder / NAMES[0], self.folder / "small-00001-of-65535.gguf")
        self.refuse("part 2 of 65535", "small-00002-of-65535.gguf", name="small-00001-of-65535.gguf")

    def test_tensors_that_are_missing_or_there_twice(self):
        name, tensor = next(iter(self.parts[2].tensors.items()))
        self.parts[1].tensors[name] = tensor
        self.write()
        self.refuse(name, NAMES[1], NAMES[2])
        self.parts = split(gguf.valid())
        del self.parts[2].tensors[name]
        self.write()
        self.refuse("tensors", NAMES[0], "damaged or belongs to another model")

    def test_a_tensor_that_is_wrong_in_another_part(self):
        name, tensor = next(iter(self.parts[2].tensors.items()))
        tensor.offset = 1 << 40
        self.write()
        self.refuse("part 3 of 3", NAMES[2], name)


if __name__ == "__main__":
    unittest.main()
