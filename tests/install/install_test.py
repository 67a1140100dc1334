#!/usr/bin/env python3
"""Tests an installed cake from another project: headers, library, package files, and the examples built with them."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD, CMAKE, FLAGS = sys.argv[1], sys.argv[2], os.environ.get("CAKE_CXX_FLAGS", "")
SOURCE = pathlib.Path(__file__).parents[2]
MODEL, DOCUMENT = SOURCE / "models/cake-mini.gguf", SOURCE / "models/document.txt"
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}


def run(*command, code=0, **options):
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=ENVIRONMENT, check=False, **options)
    assert result.returncode == code, f"{command}: {result.returncode}\n{result.stdout}"
    return result.stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "a prefix"
        run(CMAKE, "--install", BUILD, "--prefix", cls.prefix)
        cls.build = cls.folder / "build"
        shutil.copytree(SOURCE / "examples", cls.folder / "project")
        run(CMAKE, "-S", cls.folder / "project", "-B", cls.build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={cls.prefix}",
            f"-DCMAKE_CXX_FLAGS={FLAGS} -Wall -Wextra -Werror")
        run(CMAKE, "--build", cls.build)

    def example(self, name, *arguments, code=0):
        return run(self.build / name, *arguments, code=code)

    def test_generates_under_a_budget(self):
        out = self.example("generate", MODEL, DOCUMENT, 256)
        held, allowed, full = map(int, re.search(r"(\d+) bytes held of (\d+), a full cache would hold (\d+)", out).groups())
        self.assertTrue(0 < held <= allowed < full)
        self.assertIn("32 tokens", self.example("generate", MODEL, DOCUMENT, 1, code=1))

    def test_a_policy_of_ones_own(self):
        lines = self.example("own_policy", MODEL, DOCUMENT).splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["full", "cake", "mine:uniform", "mine:preference"])
        self.assertTrue(all(len(line) > 17 for line in lines), lines)

    def test_a_session_is_saved_and_asked(self):
        session = self.folder / "document.session"
        self.example("session", "save", MODEL, DOCUMENT, session)
        self.assertGreater(len(self.example("session", "ask", MODEL, session, "\nUSER: Who?\nASSISTANT:")), 5)
        self.assertIn("No such file", self.example("session", "ask", MODEL, self.folder / "none", "?", code=1))

    def test_four_prompts_at_once(self):
        lines = self.example("batch", MODEL).splitlines()
        self.assertGreaterEqual(len(lines), 4)
        self.assertIn("No such file", self.example("batch", self.folder / "none", code=1))

    def test_examples_are_short(self):
        for file in (SOURCE / "examples").glob("*.cpp"):
            self.assertLess(len(file.read_text(encoding="utf-8").splitlines()), 40 if file.stem == "batch" else 60, file.name)

    def test_pkg_config_says_how_to_compile(self):
        [pc] = self.prefix.rglob("cake.pc")
        flags = run("env", f"PKG_CONFIG_PATH={pc.parent}", "pkg-config", "--cflags", "--libs", "cake").strip()
        program = self.folder / "with-pkg-config"
        run("sh", "-c", f"c++ {FLAGS} {SOURCE}/examples/generate.cpp {flags} -o {program}")
        library = next(self.prefix.rglob("libcake.so")).parent
        out = run("env", f"LD_LIBRARY_PATH={library}", program, MODEL, DOCUMENT, 64)
        self.assertIn("bytes held", out)

    def test_the_library_shows_its_public_face_alone(self):
        library = next(self.prefix.rglob("libcake.so"))
        symbols = run("nm", "-DC", "--defined-only", library)
        self.assertIn("cake::Engine::load", symbols)
        for hidden in ("cake::KvStore", "cake::water_fill", "cake::Weights", "nlohmann"):
            self.assertNotIn(" T " + hidden, symbols)

    def test_the_installed_program_runs(self):
        [program] = self.prefix.rglob("bin/cake")
        self.assertRegex(run(program, "--version"), r"cake \d+\.\d+\.\d+")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
