"""Runs the built program for the tests, and checks that an error is a single line."""

import json
import os
import pathlib
import resource
import subprocess
import tempfile
import unittest

CAKE = os.environ["CAKE_BIN"]
MODELS = pathlib.Path(os.environ["CAKE_TEST_MODELS"])
SANITIZED = os.environ.get("CAKE_SANITIZED") == "1"
MOST_BYTES = 2 << 30
BUNDLED = pathlib.Path(__file__).parents[2] / "models/cake-mini.gguf"
WORDS = " ".join("the rain in spain stays mainly in the plain and so does the train".split() * 40)


class InFolder(unittest.TestCase):
    """A test with its own temporary folder."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, data, name):
        path = self.folder / name
        path.write_bytes(data)
        return path


def limit_memory():
    """Limits the address space, except under sanitizers: these reserve terabytes and have their own limit (ASAN_OPTIONS
    below)."""
    if not SANITIZED:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))


def environment():
    asan = f"max_allocation_size_mb={MOST_BYTES >> 20}:allocator_may_return_null=1:detect_leaks=1"
    return {**os.environ, "ASAN_OPTIONS": asan, "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


def command(*arguments):
    return [CAKE, *map(str, arguments)]


def cake(*arguments, stdin=b"", stdout=subprocess.PIPE, timeout=300, variables=None, cwd=None):
    return subprocess.run(command(*arguments), input=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=timeout,
                          env=environment() | (variables or {}), cwd=cwd, preexec_fn=limit_memory, check=False)


def run(*arguments, model="f32", **options):
    """Runs `cake run` on one of the suite's models, on one thread and deterministically."""
    path = MODELS / f"{model}.gguf"
    return cake("run", "-m", path, "-t", 1, "--temp", 0, "--ignore-eos", *arguments, **options)


def report(*arguments, **options):
    """Returns the report of `cake run --json` for a run that must succeed."""
    result = run("--json", *arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def assert_refused(test, result, *words, code=1):
    """Checks the exit code, that standard output is empty, and that standard error is one line with the given words."""
    text = result.stderr.decode("utf-8", "replace")
    test.assertEqual(result.returncode, code, text)
    test.assertIn(result.stdout, (b"", None))
    test.assertRegex(text, r"\Acake: [^\n]+\n\Z")
    for word in words:
        test.assertIn(word, text)
