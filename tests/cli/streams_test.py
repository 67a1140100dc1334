#!/usr/bin/env python3
"""Tests of closed or full standard streams, and of texts that begin with a byte order mark."""

import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import (  # noqa: E402
    BUNDLED, MODELS, WORDS, InFolder, assert_refused, cake, command, environment, report, run)

MARK = b"\xef\xbb\xbf"
MODEL = ("-m", MODELS / "f32.gguf", "-t", 1)


class Folder(InFolder):
    def write(self, data, name="text.txt"):
        return super().write(data, name)


def with_closed(descriptors, *arguments, stdin=subprocess.DEVNULL):
    """Runs the program without some of its standard descriptors."""
    def close():
        for descriptor in descriptors:
            os.close(descriptor)

    return subprocess.run(command(*arguments), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(),
                          preexec_fn=close, timeout=300, check=False)


class Closed(Folder):
    def test_output(self):
        question = self.write(b"Who are you?\n")
        for arguments in (("run", *MODEL, "-p", "the rain", "-n", 4),
                          ("run", *MODEL, "-p", "the rain", "-n", 4, "--json"),
                          ("chat", "-m", BUNDLED, "-t", 1, "-n", 4),
                          ("bench", *MODEL, "-p", 8, "-n", 0, "-r", 1),
                          ("eval", "niah", *MODEL, "--lengths", 600, "--depths", 50, "--samples", 1, "--policy", "full"),
                          ("inspect", *MODEL, "-p", "the rain", "-n", 1, "-o", "-"),
                          ("info", MODELS / "f32.gguf"), ("--version",), ("--help",), ("run", "--help")):
            with self.subTest(arguments=arguments), question.open("rb") as stdin:
                assert_refused(self, with_closed([1], *arguments, stdin=stdin), "standard output is closed")

    def test_input(self):
        assert_refused(self, with_closed([0], "run", *MODEL, "-f", "-"), "-: Bad file descriptor")

    def test_no_file_takes_the_place_of_a_closed_descriptor(self):
        session = self.folder / "a.session"
        result = with_closed([0, 1, 2], "run", *MODEL, "-p", WORDS, "-n", 0, "--save-session", session, "--kv-budget", 96)
        self.assertEqual(result.returncode, 0)
        self.assertEqual(report("--load-session", session, "-n", 4)["tokens"],
                         report("-p", WORDS, "-n", 4, "--kv-budget", 96)["tokens"])
        self.assertEqual(with_closed([0, 1, 2], "run", *MODEL, "-p", WORDS, "-n", 4).returncode, 1)

    def test_no_socket_takes_the_place_of_a_closed_descriptor(self):
        def close():
            for descriptor in (0, 1):
                os.close(descriptor)

        with subprocess.Popen(command("serve", "-m", BUNDLED, "-t", 1, "--port", 0), stderr=subprocess.PIPE,
                              env=environment(), preexec_fn=close) as server:
            self.addCleanup(server.kill)
            self.assertIn(b"http://", server.stderr.readline())
            self.assertEqual([os.readlink(f"/proc/{server.pid}/fd/{fd}") for fd in (0, 1)], ["/dev/null"] * 2)
            server.terminate()
            self.assertEqual(server.wait(60), 0)


class Full(unittest.TestCase):
    def test_help_and_version(self):
        commands = re.findall(r"^  (\w+) ", cake("--help").stdout.decode().split("SUBCOMMANDS:", 1)[1], re.MULTILINE)
        self.assertGreaterEqual(len(commands), 7)
        for arguments in (("--help",), ("--version",), *((name, "--help") for name in commands)):
            with self.subTest(arguments=arguments), open("/dev/full", "wb") as full:
                assert_refused(self, cake(*arguments, stdout=full), "standard output", "No space left")


class ByteOrderMark(Folder):
    def test_is_not_part_of_a_prompt(self):
        plain = report("-p", WORDS, "-n", 4)
        marked = self.write(MARK + WORDS.encode())
        data = marked.read_bytes()
        for flags, stdin in ((("-f", marked), b""), (("-f", "-"), data), (("-",), data),
                             (("-f", marked, "--segment", 100_000), b""), (("-f", "-", "--segment", 100_000), data)):
            with self.subTest(flags=flags):
                result = report(*flags, "-n", 4, stdin=stdin)
                self.assertEqual((result["prompt_tokens"], result["tokens"]), (plain["prompt_tokens"], plain["tokens"]))

    def test_may_come_in_pieces(self):
        plain = report("-p", "the rain", "-n", 4)
        for flags in ((), ("--segment", 100)):
            with self.subTest(flags=flags):
                process = subprocess.Popen(
                    command("run", *MODEL, "-f", "-", "-n", 4, "--temp", 0, "--ignore-eos", "--json", *flags),
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())
                for piece in (MARK[:1], MARK[1:2], MARK[2:], b"the ", b"rain"):
                    process.stdin.write(piece)
                    process.stdin.flush()
                    time.sleep(0.2)
                output = process.communicate(timeout=60)[0].decode()
                self.assertIn(f'"prompt_tokens": {plain["prompt_tokens"]},', output)

    def test_alone_is_an_empty_prompt(self):
        assert_refused(self, run("-f", self.write(MARK)), "the prompt is empty")
        assert_refused(self, run("-f", self.write(MARK), "--segment", 100), "the prompt is empty")

    def test_what_only_begins_like_one_is_kept(self):
        for text in (MARK[:1], MARK[:2], MARK[:2] + b"a", b"a" + MARK, MARK + MARK + b"a"):
            with self.subTest(text=text):
                expected = text.removeprefix(MARK)
                n_bytes = sum(byte > 127 for byte in expected)  # each is one token in this vocabulary
                self.assertGreaterEqual(report("-f", self.write(text), "-n", 0)["prompt_tokens"], 1 + n_bytes)

    def test_is_not_part_of_what_a_chat_reads(self):
        def answers(data, *lines):
            document = self.write(data)
            result = cake("chat", "-m", BUNDLED, "-t", 1, "--temp", 0, "-n", 12, *(("-f", document) if not lines[0].count(
                b"/read") else ()), stdin=b"".join(line % {b"file": os.fsencode(document)} for line in lines))
            self.assertEqual(result.returncode, 0, result.stderr)
            return result.stdout

        text = b"The code of the humble otter is 4711."
        question = b"What is the code of the humble otter?\n/stats\n"
        for lines in ((question,), (b"/read %(file)s\n", question)):
            self.assertEqual(answers(MARK + text, *lines), answers(text, *lines))
        self.assertEqual(answers(text, MARK + question), answers(text, question))


class FirstToken(Folder):
    """A text that already begins with `<s>`, the token that the model expects before every text."""

    def test_counts_once_and_is_warned_of(self):
        plain = report("-p", WORDS, "-n", 4)
        marked = "<s>" + WORDS
        for flags in (("-p", marked), ("-f", self.write(marked.encode())), ("-p", marked, "--segment", 100_000)):
            with self.subTest(flags=flags):
                result = report(*flags, "-n", 4)
                self.assertEqual((result["prompt_tokens"], result["tokens"]), (plain["prompt_tokens"], plain["tokens"]))
                errors = run(*flags, "-n", 0).stderr.decode()
                self.assertRegex(errors, r"\Acake: warning: the text begins with the token [^\n]+\n\Z")

    def test_elsewhere_is_the_token_that_it_names(self):
        n_tokens = report("-p", WORDS + "<s>", "-n", 0)["prompt_tokens"]
        self.assertEqual(n_tokens, report("-p", WORDS, "-n", 0)["prompt_tokens"] + 1)
        self.assertEqual(run("-p", WORDS + "<s>", "-n", 0).stderr, b"")


if __name__ == "__main__":
    unittest.main()
