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
        text = self.example("batch", MODEL)
        answers = re.split("The capital of France is|Two and two are|A cake is made of|Once upon a time", text)
        self.assertEqual(5, len(answers), text)
        self.assertTrue(all(len(answer.strip()) > 5 for answer in answers[1:]), text)
        self.assertIn("No such file", self.example("batch", self.folder / "none", code=1))

    def test_examples_are_short(self):
        for file in (SOURCE / "examples").glob("*.cpp"):
            self.assertLess(len(file.read_text(encoding="utf-8").splitlines()), 40 if file.stem == "batch" else 60, file.name)

    def test_a_part_of_another_project_needs_the_library_alone(self):
        project = self.folder / "whole"
        project.mkdir()
        (project / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(whole LANGUAGES CXX)\n"
            f'add_subdirectory("{SOURCE}" cake)\nadd_executable(generate "{SOURCE}/examples/generate.cpp")\n'
            "target_link_libraries(generate PRIVATE cake::cake)\n", encoding="utf-8")
        missing = [f"-DCMAKE_DISABLE_FIND_PACKAGE_{package}=ON" for package in ("CLI11", "GTest", "benchmark")]
        run(CMAKE, "-S", project, "-B", project / "build", "-G", "Ninja", *missing)
        targets = run("ninja", "-C", project / "build", "-t", "targets", "all")
        self.assertIn("generate: CXX_EXECUTABLE_LINKER__generate_", targets)
        for absent in ("cake_cli", "cake_server", "cake_eval", "cake_unit_tests"):
            self.assertNotIn(absent, targets)

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
