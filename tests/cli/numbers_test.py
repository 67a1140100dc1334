#!/usr/bin/env python3
"""Tests that every numeric option of every command refuses text that is not a number."""

import concurrent.futures
import os
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import assert_refused, cake  # noqa: E402

# Options whose value is a text. All other options with a value take a number and are tested.
TEXTS = {
    "--allocator", "--answers", "--api-key", "--cache-type-k", "--cache-type-v", "--chat-template", "--chat-template-file",
    "--chat-template-kwargs", "--cors", "--data", "--device", "--documents", "--gpu-layers", "--rpc", "--split-mode", "--tensor-split", "--dry-sequence-breaker", "--file", "--filler", "--host", "--kv-memory", "--load-session", "--log-format", "--model", "--output",
    "--plot", "--plot-kind", "--policy", "--prompt", "--reasoning-format", "--samplers", "--save-session", "--scorer", "--slot-save-path", "--sources", "--subtask", "--system-prompt", "--trusted-proxy", "--wording",
}  # fmt: skip
# Options that take several numbers, separated by commas.
LISTS = {"--n-prompt", "--n-gen", "--n-depth", "--lengths", "--depths"}
NO_NUMBERS = ("0_5", "0'5", "010", "0x10", "0b1", "1 ", "1..2", "1e", "one", "true", "nan")
WITH_COMMA = ("0,5", "1,5", "1,2")
MORE = {"eval": ("niah",), "inspect": ("-o", "/dev/null")}  # required arguments


def commands():
    result = cake("--help").stdout.decode()
    return re.findall(r"^  (\w+) ", result.split("SUBCOMMANDS:", 1)[1], re.MULTILINE)


def options(command):
    """Long names of the options that take a value."""
    text = cake(command, "--help").stdout.decode()
    return re.findall(r"^ +(?:-\w, +)?(--[\w-]+) \[?[A-Z]", text, re.MULTILINE)


class Numbers(unittest.TestCase):
    def test_what_is_no_number_is_refused_by_every_option_of_every_command(self):
        cases = [(command, option, value)
                 for command in commands() for option in options(command) if option not in TEXTS
                 for value in NO_NUMBERS + (() if option in self.lists(command) else WITH_COMMA)]
        self.assertGreater(len({(command, option) for command, option, _ in cases}), 60)

        def check(case):
            command, option, value = case
            assert_refused(self, cake(command, *MORE.get(command, ()), "-m", "/none", f"{option}={value}"), option, code=2)

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for case, result in zip(cases, pool.map(check, cases)):
                with self.subTest(case=case):
                    self.assertIsNone(result)

    @staticmethod
    def lists(command):
        return LISTS | {"--kv-budget", "--pool-kernel"} if command == "eval" else LISTS

    def test_the_commands_and_options_are_found(self):
        self.assertLessEqual({"read", "run", "chat", "serve", "bench", "eval", "inspect", "info"}, set(commands()))
        self.assertLessEqual({"--temp", "--predict", "--threads", "--gamma", "--kv-budget"}, set(options("run")))

    def test_the_sentence_says_how_a_number_is_written(self):
        assert_refused(self, cake("run", "-m", "/none", "-p", "a", "--temp", "0,5"), '"0,5" is not a number', "0.5", code=2)

    def test_a_list_of_numbers_is_checked_one_by_one(self):
        assert_refused(self, cake("bench", "-m", "/none", "-p", "512,1_024"), '"1_024"', code=2)
        assert_refused(self, cake("bench", "-m", "/none", "-p", "512,1024"), "No such file")

    def test_numbers_are_taken_as_they_are_usually_written(self):
        for flags in (("--temp", ".5"), ("--temp", "1e-1"), ("--temp", "2."), ("--temp", "+0.5"), ("-n", "10"), ("-n", "-1"),
                      ("-s", "-1"), ("--kv-budget", "1024"), ("--kv-ratio", "0.05"), ("-n", "0")):
            with self.subTest(flags=flags):
                assert_refused(self, cake("run", "-m", "/none", "-p", "a", *flags), "/none: No such file")


if __name__ == "__main__":
    unittest.main()
