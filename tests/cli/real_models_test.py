#!/usr/bin/env python3
"""Tests a real model, found by name: it generates the same text as llama.cpp, and `cake info` describes it correctly.

usage: real_models_test.py MODEL; ends with 77 if the model was not fetched (./dev models MODEL)
"""

import json
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support.cake_process import command, environment  # noqa: E402
from support.real_models import folder, real_model  # noqa: E402

MODEL = sys.argv[1]
SENTENCES = ("The boiler makes steam from water and coal. The steam pushes a piston, the piston turns a wheel, and the wheel drives "
             "the pumps that keep the mine dry. ")
# All models are certain of its continuation, so rounding never decides between two equally likely words.
PROMPT = 2 * SENTENCES + "The boiler"
# Architecture, layers, KV heads, trained context.
SHAPES = {
    "smollm2-135m": ("llama", 30, 3, 8192),
    "gemma3-270m": ("gemma3", 18, 1, 32768),
    "qwen2.5-coder-0.5b": ("qwen2", 24, 2, 32768),
    "qwen2.5-coder-1.5b": ("qwen2", 28, 2, 32768),
}
SKIPPED = 77


def output(arguments):
    """Returns the output of a command that must succeed. The memory limit of the other tests does not apply, since the
    larger models exceed it."""
    variables = environment() | {"CAKE_MODELS_DIR": str(folder())}
    result = subprocess.run([str(a) for a in arguments], stdin=subprocess.DEVNULL, capture_output=True, env=variables,
                            timeout=1200, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


class RealModel(unittest.TestCase):
    def setUp(self):
        self.path = real_model(MODEL)

    def test_80_tokens_are_llama_cpps(self):
        same = ("-p", PROMPT, "-n", 80, "--temp", 0, "-t", 1)
        theirs = output(["llama-completion", "-m", self.path, *same, "-no-cnv", "--no-display-prompt", "--no-warmup"])
        ours = output(command("run", "-m", MODEL, *same, "--policy", "full", "--ggml-attention"))
        self.assertGreater(len(ours.split()), 30)
        self.assertEqual(ours.strip(), theirs.removesuffix(b" [end of text]\n\n").strip())

    def test_what_it_is_is_told(self):
        info = json.loads(output(command("info", MODEL, "--json")))
        self.assertEqual(info["model"], str(self.path))
        self.assertEqual(tuple(info[key] for key in ("architecture", "n_layer", "n_head_kv", "n_ctx_train")), SHAPES[MODEL])


if __name__ == "__main__":
    outcome = unittest.main(argv=sys.argv[:1], exit=False).result
    sys.exit(1 if not outcome.wasSuccessful() else SKIPPED if outcome.skipped else 0)
