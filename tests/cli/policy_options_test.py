#!/usr/bin/env python3
"""Tests that every command refuses a budget for `full` and warns of options that the chosen policy does not use."""

import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import MODELS, assert_refused, cake, run  # noqa: E402

MODEL = MODELS / "f32.gguf"
# Arguments with which each command gets as far as loading its model, which does not exist.
COMMANDS = {
    "run": ("-p", "a"), "ask": ("-f", __file__, "What?"), "read": (__file__, "-o", "/tmp/none.kv"), "chat": (), "serve": (), "bench": (), "inspect": ("-p", "a", "-o", "/dev/null"), "eval": ("niah",),
}  # fmt: skip


class Budgets(unittest.TestCase):
    def test_full_takes_none(self):
        for command, more in COMMANDS.items():
            for flags in (("--kv-budget", 64), ("--kv-memory", "1GiB"), ("--kv-ratio", 0.5)):
                if command == "eval" and flags[0] != "--kv-budget":
                    continue  # eval has no such flag
                with self.subTest(command=command, flags=flags):
                    result = cake(command, *more, "-m", "/none", "--policy", "full", *flags)
                    assert_refused(self, result, "full", "keeps everything", code=2)

    def test_among_several_policies_it_is_for_the_others(self):
        for command in ("bench", "inspect", "eval"):
            with self.subTest(command=command):
                result = cake(command, *COMMANDS[command], "-m", "/none", "--policy", "full,cake", "--kv-budget", 64)
                assert_refused(self, result, "/none: No such file")
                if command != "eval":
                    result = cake(command, *COMMANDS[command], "-m", "/none", "--policy", "full,full", "--kv-budget", 64)
                    assert_refused(self, result, "keeps everything", code=2)


class Unread(unittest.TestCase):
    def warning(self, command, *flags):
        """Returns the only line before the error about the missing model, or an empty string."""
        result = cake(command, *COMMANDS[command], "-m", "/none", *flags)
        self.assertEqual(result.returncode, 1, result.stderr)
        *warnings, error = result.stderr.decode().splitlines()
        self.assertIn("/none: No such file", error)
        self.assertLessEqual(len(warnings), 1, warnings)
        return warnings[0] if warnings else ""

    def test_is_warned_of_by_every_command(self):
        for command in COMMANDS:
            for policy, flags, named in (
                    ("snapkv", ("--gamma", 3), "--gamma has no effect with the policy snapkv"),
                    ("h2o", ("--pool-kernel", 7), "--pool-kernel has no effect with the policy h2o"),
                    ("full", ("--window", 8, "--evict-interval", 2), "--window, --evict-interval have no effect"),
                    ("cake:preference", ("--tau1", 2, "--tau2", 2, "--gamma", 3, "--pool-kernel", 7), ""),
                    ("snapkv", ("--pool-kernel", 7, "--window", 8, "--evict-interval", 2), ""),
                    ("full", ("--cache-type-k", "q8_0"), ""),
                    ("snapkv", (), "")):  # fmt: skip
                with self.subTest(command=command, policy=policy, flags=flags):
                    warning = self.warning(command, "--policy", policy, *flags)
                    self.assertIn(named, warning)
                    self.assertEqual(bool(named), bool(warning), warning)

    def test_of_the_halves_that_replace_those_of_the_policy(self):
        self.assertIn("--gamma", self.warning("run", "--policy", "cake", "--scorer", "snapkv", "--gamma", 3))
        self.assertIn("--tau1", self.warning("run", "--policy", "cake", "--allocator", "uniform", "--tau1", 3))
        self.assertEqual("", self.warning("run", "--policy", "snapkv", "--allocator", "preference", "--tau1", 3))

    def test_of_several_policies_one_that_reads_it_is_enough(self):
        for command in ("bench", "inspect", "eval"):
            self.assertEqual("", self.warning(command, "--policy", "snapkv,cake", "--gamma", 3))
            self.assertIn("--gamma has no effect with the policy snapkv, h2o",
                          self.warning(command, "--policy", "snapkv,h2o", "--gamma", 3))

    def test_a_report_of_preferences_reads_their_exponents(self):
        self.assertEqual("", self.warning("inspect", "--policy", "snapkv", "--tau1", 3))
        self.assertIn("--tau1", self.warning("run", "--policy", "snapkv", "--tau1", 3))

    def test_it_only_warns(self):
        plain, warned = (run("-p", "the rain", "-n", 4, "--policy", "snapkv", *flags) for flags in ((), ("--gamma", 3)))
        self.assertEqual((warned.returncode, warned.stdout), (0, plain.stdout))
        self.assertTrue(re.fullmatch(rb"cake: warning: [^\n]+\n", warned.stderr), warned.stderr)


if __name__ == "__main__":
    unittest.main()
