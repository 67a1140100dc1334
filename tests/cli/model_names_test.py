#!/usr/bin/env python3
"""Tests that every command that takes a model finds it by name (`-m NAME`)."""

import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support.cake_process import BUNDLED, assert_refused, cake  # noqa: E402

# Every command that takes a model, with the other arguments that it needs.
COMMANDS = {
    "run": ["-p", "the rain", "-n", 1], "ask": ["-f", __file__, "What?"], "read": [__file__, "-o", "/tmp/none.kv"], "chat": [], "serve": ["--port", 0], "bench": ["-p", 1, "-n", 0],
    "eval": ["niah"], "inspect": ["-f", pathlib.Path(__file__), "-o", "/dev/null"], "info": [],
}  # fmt: skip


class Names(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.models = self.folder / "models"
        self.models.mkdir()

    def call(self, *arguments, **variables):
        """Runs cake in an empty working folder."""
        place = self.folder / "work"
        place.mkdir(exist_ok=True)
        return cake(*arguments, variables={"CAKE_MODELS_DIR": str(self.models)} | variables, cwd=place)

    def assert_runs(self, result):
        self.assertEqual(result.returncode, 0, result.stderr.decode())

    def test_a_model_in_the_folder_is_found(self):
        shutil.copy(BUNDLED, self.models / "mine.gguf")
        for command in ("run", "bench", "info"):
            with self.subTest(command):
                self.assert_runs(self.call(command, "-m", "mine", *COMMANDS[command]))
        self.assertIn(f"{self.models}/mine.gguf", self.call("info", "mine").stdout.decode())

    def test_a_file_in_the_working_folder_comes_first(self):
        shutil.copy(BUNDLED, self.models / "mine.gguf")
        (self.folder / "work").mkdir()
        shutil.copy(BUNDLED, self.folder / "work/mine")
        self.assertIn("\n  file          mine\n", self.call("info", "mine").stdout.decode())
        self.assertNotIn("\n  file          mine\n", self.call("info", "./mine").stdout.decode())

    def test_a_folder_in_the_working_folder_does_not(self):
        shutil.copy(BUNDLED, self.models / "mine.gguf")
        (self.folder / "work/mine").mkdir(parents=True)
        self.assert_runs(self.call("info", "mine"))

    def test_an_unknown_name_is_answered_with_those_that_there_are(self):
        for name in ("one", "two"):
            shutil.copy(BUNDLED, self.models / f"{name}.gguf")
        for command, more in COMMANDS.items():
            with self.subTest(command):
                result = self.call(command, "-m", "three", *more)
                assert_refused(self, result, 'no file or model "three"', f"{self.models} has one, two")

    def test_a_known_name_is_answered_with_how_to_fetch_it(self):
        result = self.call("info", "-m", "smollm2-135m")
        assert_refused(self, result, "./dev models smollm2-135m fetches it")

    def test_without_any_models_the_known_ones_are_listed(self):
        assert_refused(self, self.call("info", "three"), "./dev models", "smollm2-135m", "qwen2.5-coder-1.5b")

    def test_what_cannot_be_a_name_is_a_path(self):
        shutil.copy(BUNDLED, self.models / "mine.gguf")
        for path in ("mine.gguf", "./mine", "../models/none.gguf"):
            with self.subTest(path):
                assert_refused(self, self.call("info", path), path)

    def test_the_folder_follows_from_the_cache_folder(self):
        place = self.folder / "cache/cake/models"
        place.mkdir(parents=True)
        shutil.copy(BUNDLED, place / "mine.gguf")
        for variables in ({"XDG_CACHE_HOME": f"{self.folder}/cache"}, {"CAKE_DEV_CACHE": f"{self.folder}/cache/cake"}):
            with self.subTest(variables):
                self.assert_runs(self.call("info", "mine", CAKE_MODELS_DIR="", **{"CAKE_DEV_CACHE": ""} | variables))
        (self.folder / ".cache").symlink_to(self.folder / "cache")
        nothing = {"CAKE_MODELS_DIR": "", "CAKE_DEV_CACHE": "", "XDG_CACHE_HOME": ""}
        self.assert_runs(self.call("info", "mine", HOME=str(self.folder), **nothing))
        assert_refused(self, self.call("info", "mine", HOME="", **nothing), 'no file or model "mine"')


if __name__ == "__main__":
    unittest.main()
