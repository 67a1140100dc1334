#!/usr/bin/env python3
"""Command-line tests of long streams, saved sessions and chats."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import (  # noqa: E402
    BUNDLED, MODELS, SANITIZED, WORDS, InFolder, assert_refused, cake, command, environment, report, run)

DOCUMENT = (BUNDLED.parent / "document.txt").read_text(encoding="utf-8")


class Folder(InFolder):
    def setUp(self):
        super().setUp()
        self.session = self.folder / "a.session"


class Streams(Folder):
    def test_a_text_in_segments_is_the_same_from_anywhere(self):
        file = self.folder / "text"
        file.write_text(WORDS)
        flags = ("--segment", 100, "--kv-budget", 64, "-n", 8)
        from_file = report("-f", file, *flags)
        self.assertEqual(from_file["tokens"], report("-p", WORDS, *flags)["tokens"])
        self.assertEqual(from_file["tokens"], report("-", *flags, stdin=WORDS.encode())["tokens"])
        self.assertEqual(from_file["prompt_tokens"], report("-p", WORDS, "-n", 0)["prompt_tokens"])

    def test_one_segment_that_holds_the_text_is_no_segment(self):
        flags = ("-p", WORDS, "--kv-budget", 64, "-n", 8)
        self.assertEqual(report(*flags)["tokens"], report(*flags, "--segment", 100000)["tokens"])

    def test_a_pipe_without_an_end_is_read_as_it_comes(self):
        with subprocess.Popen(["yes", "the rain in spain"], stdout=subprocess.PIPE) as endless:
            result = subprocess.run(command("run", "-m", MODELS / "f32.gguf", "-t", 1, "-f", "-", "--segment", 300,
                                            "--max-prompt", 3000, "-n", 2, "--kv-budget", 64, "--json"),
                                    stdin=endless.stdout, stdout=subprocess.PIPE, env=environment(), timeout=300, check=True)
            endless.kill()
        self.assertEqual(json.loads(result.stdout)["prompt_tokens"], 3000)

    def test_a_log_gets_a_line_after_a_minute(self):
        process = subprocess.Popen(command("run", "-m", MODELS / "f32.gguf", "-t", 1, "-f", "-", "--segment", 300, "-n", 1),
                                   stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment())
        begin = time.monotonic()
        process.stdin.write((WORDS * 10).encode())
        process.stdin.flush()
        time.sleep(61)
        _, errors = process.communicate((" " + WORDS * 2).encode(), timeout=300)
        self.assertEqual(process.returncode, 0)
        lines = [line for line in errors.decode().splitlines() if "warning" not in line]
        self.assertLessEqual(len(lines), (time.monotonic() - begin) // 60)
        self.assertRegex(lines[0], r"\Acake: reading  \d+ tokens  \d+ tokens/s\Z")

    def memory(self, n_tokens):
        """Returns the peak resident memory and the accounted memory for a stream of `n_tokens` tokens."""
        text = ("the rain in spain stays mainly in the plain. " * (n_tokens // 8)).encode()
        process = subprocess.Popen(command("run", "-m", MODELS / "f32.gguf", "-t", 1, "-f", "-", "--segment", 512,
                                           "--max-prompt", n_tokens, "-n", 0, "--kv-budget", 128, "--json"),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
        try:
            process.stdin.write(text)
            process.stdin.close()
        except BrokenPipeError:
            pass  # cake has read as much as it needs
        result = json.loads(process.stdout.read())
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        self.assertEqual(status, 0)
        self.assertEqual(result["prompt_tokens"], n_tokens)
        accounted = result["kv"]["bytes_peak"] + result["hidden_bytes_peak"] + result["compute_bytes_peak"]
        return usage.ru_maxrss * 1024, accounted

    @unittest.skipIf(SANITIZED, "a sanitizer keeps freed memory")
    def test_ten_times_the_stream_takes_the_same_memory(self):
        short, long = self.memory(5000), self.memory(50000)
        self.assertLess(abs(long[1] / short[1] - 1), 0.01)
        self.assertLess(long[0] - short[0], 4 << 20)

    def test_wrong_use(self):
        assert_refused(self, run("-p", "a", "--segment", -1), "--segment", code=2)
        assert_refused(self, run("-p", "a", "--segment", 10, "--kv-ratio", 0.5), "--kv-ratio", "--kv-budget", code=2)
        assert_refused(self, run("-p", "", "--segment", 10), "empty")
        assert_refused(self, run("-p", WORDS, "--segment", 100, "--policy", "full", "-c", 200), "-c")


class Sessions(Folder):
    def test_a_saved_prompt_answers_as_if_it_had_just_been_read(self):
        flags = ("--kv-budget", 96)
        whole = report("-p", WORDS, *flags, "-n", 12)
        self.assertEqual(report("-p", WORDS, *flags, "-n", 0, "--save-session", self.session)["generated_tokens"], 0)
        loaded = report("--load-session", self.session, "-n", 12)
        self.assertEqual(loaded["tokens"], whole["tokens"])
        self.assertEqual(loaded["prompt_tokens"], 0)
        self.assertEqual(loaded["kv"]["bytes_now"], whole["kv"]["bytes_now"])

    def test_an_answer_goes_on_where_it_stopped(self):
        flags = ("-p", WORDS, "--policy", "snapkv", "--kv-budget", 80)
        whole = report(*flags, "-n", 60)["tokens"]
        first = report(*flags, "-n", 25, "--save-session", self.session)["tokens"]
        second = report("--load-session", self.session, "-n", 35)["tokens"]
        self.assertEqual(first + second, whole)

    def test_full_leaves_room_to_go_on(self):
        report("-p", WORDS, "--policy", "full", "-n", 0, "--save-session", self.session)
        loaded = report("--load-session", self.session, "-p", " and the rain", "-n", 6)
        self.assertEqual(loaded["tokens"], report("-p", WORDS + " and the rain", "--policy", "full", "-n", 6)["tokens"])

    def test_refusals(self):
        report("-p", WORDS, "-n", 0, "--save-session", self.session)
        load = ("--load-session", self.session)
        assert_refused(self, run(*load, "--policy", "snapkv"), "--policy", "saved session", code=2)
        assert_refused(self, run(*load, "--kv-budget", 7), "--kv-budget", code=2)
        assert_refused(self, run(*load, "-c", 7), "--ctx-size", code=2)
        assert_refused(self, run(*load, "--segment", 7), "--segment", code=2)
        assert_refused(self, run(*load, model="tied"), "another model")
        assert_refused(self, run("--load-session", self.folder / "none"), "none", "No such file")
        assert_refused(self, run("--load-session", self.folder), "plain file")
        whole = self.session.read_bytes()
        self.session.write_bytes(whole[:-100])
        assert_refused(self, run(*load), "damaged")
        begin = time.monotonic()
        assert_refused(self, run("-p", WORDS, "--save-session", self.folder / "none" / "a"), "none/a")
        self.assertLess(time.monotonic() - begin, 30)
        assert_refused(self, run("-p", "a", "-n", 0, "--save-session", self.folder), "plain file")

    def test_a_full_disk_leaves_the_earlier_file(self):
        report("-p", "the rain", "-n", 0, "--save-session", self.session)
        whole = self.session.read_bytes()
        # A limit on the file size simulates a full disk.
        script = 'ulimit -f 8; trap "" XFSZ; exec "$@"'
        result = subprocess.run(["sh", "-c", script, "sh", *command("run", "-m", MODELS / "f32.gguf", "-p", WORDS, "-n", 0,
                                                                    "--save-session", self.session)],
                                capture_output=True, env=environment(), timeout=300, check=False)
        assert_refused(self, result, str(self.session))
        self.assertEqual(self.session.read_bytes(), whole)
        self.assertEqual(os.listdir(self.folder), ["a.session"])


def chat(lines, *flags):
    result = cake("chat", "-m", BUNDLED, "-t", 1, "--temp", 0, "-n", 12, *flags, stdin="".join(lines).encode())
    return result.returncode, result.stdout.decode(), result.stderr.decode()


class Chats(Folder):
    budget = ("--kv-budget", 256)

    def test_answers_are_those_of_one_run_over_the_same_segments(self):
        document = self.folder / "document"
        document.write_text(DOCUMENT)
        questions = ["What is the code of the humble otter?", "What is the code of the humble otter?", "Who are you?"]
        code, out, _ = chat([question + "\n" for question in questions], *self.budget, "-f", document, "--policy", "cake+")
        self.assertEqual(code, 0)
        # Repeat the chat by hand, with the bundled model's template and a session saved between the turns.
        answers, load = [], None
        for turn, question in enumerate(questions):
            before = DOCUMENT + "\n\n" if turn == 0 else ""
            flags = ("--load-session", self.session) if load else self.budget
            prompt = self.folder / "prompt"
            prompt.write_text(("" if turn == 0 else "</s>\n") + f"USER: {before}{question}\nASSISTANT:")
            result = cake("run", "-m", BUNDLED, "-t", 1, "--temp", 0, "-n", 12, "-f", prompt, "--save-session",
                          self.session, *flags)
            self.assertEqual(result.returncode, 0, result.stderr)
            answers.append(result.stdout.decode())
            load = True
        self.assertEqual(out, "".join(answers))
        self.assertGreater(len(out), 20)

    def test_a_document_is_read_for_any_question(self):
        document = self.folder / "document"
        document.write_text("".join(DOCUMENT.splitlines(keepends=True)[:30]))
        questions = ("What is the code of the humble otter?", "What is the code of the silver falcon?")
        code, out, _ = chat([question + "\n" for question in questions], "--kv-budget", 400, "-f", document)
        self.assertEqual((code, len(out.splitlines())), (0, 2))
        self.assertIn("8866", out.splitlines()[0])

    def test_a_document_may_come_through_a_pipe(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("The box is red.\n",), daemon=True)
        writer.start()
        code, out, errors = chat(["Which box?\n"], "-f", pipe)
        self.assertEqual(code, 0, errors)
        self.assertGreater(len(out), 1)

    def test_saves_loads_and_clears(self):
        code, out, errors = chat(["My name is Ishmael.\n", f"/save {self.session}\n", "Who are you?\n", "/clear\n", "Hello.\n",
                                  f"/load  {self.session} \n", "Who are you?\n"], *self.budget)
        self.assertEqual((code, errors), (0, ""))
        first = chat(["My name is Ishmael.\n"], *self.budget)[1]
        both = chat(["My name is Ishmael.\n", "Who are you?\n"], *self.budget)[1]
        fresh = chat(["Hello.\n"], *self.budget)[1]
        self.assertTrue(both.startswith(first) and both != first)
        self.assertEqual(out, both + fresh + both.removeprefix(first))
        self.assertEqual(chat(["Who are you?\n"], "--load-session", self.session)[1], both.removeprefix(first))

    def test_stats_stay_in_the_budget_over_many_turns(self):
        code, out, _ = chat(["Tell me of the whale, the sea and the ship.\n"] * 12 + ["/stats\n"], *self.budget)
        self.assertEqual(code, 0)
        kept = [int(n) for n in re.findall(r"layer +\d+: (\d+) tokens", out)]
        self.assertEqual(len(kept), 6)
        self.assertLessEqual(sum(kept), 256 * 6)
        self.assertIn("24 messages", out)

    def test_what_goes_wrong_in_a_turn_is_said_and_it_goes_on(self):
        code, out, errors = chat(["/nosuch\n", "/read\n", f"/read {self.folder}\n", "/load nothing\n", "/save /none/none\n",
                                  "/help\n", "", "\n", "Hello.\n"])
        self.assertEqual(code, 0)
        self.assertEqual(len(errors.splitlines()), 5)
        for words in ("/nosuch", "/read", "folder", "nothing", "nothing has been read"):
            self.assertIn(words, errors)
        self.assertIn("/stats", out)
        self.assertEqual(out.splitlines()[-1], chat(["Hello.\n"])[1].splitlines()[-1])

    def test_a_message_may_have_several_lines(self):
        self.assertEqual(chat(["One \\\n", "two.\n"])[0], 0)
        self.assertEqual(chat(["One \\\n"])[0], 0)

    def test_a_full_cache_that_is_full_says_so_and_can_be_cleared(self):
        code, out, errors = chat([DOCUMENT.replace("\n", " ")[:3000] + "\n", "/clear\n", "Hello.\n"], "--policy", "full", "-c", 300)
        self.assertEqual(code, 0)
        self.assertIn("-c", errors)
        self.assertEqual(out, chat(["Hello.\n"], "--policy", "full", "-c", 300)[1])

    def test_refusals(self):
        none = cake("chat", "-m", MODELS / "f32.gguf", stdin=b"Hello.\n")
        assert_refused(self, none, "chat template")
        assert_refused(self, cake("chat", "-m", BUNDLED, "--chat-template", "none-such"), "none-such")
        self.assertEqual(cake("chat", "-m", MODELS / "f32.gguf", "-t", 1, "--chat-template", "chatml", "-n", 3,
                              stdin=b"Hello.\n").returncode, 0)
        assert_refused(self, cake("chat", "-m", BUNDLED, "-f", self.folder / "none"), "none")
        assert_refused(self, cake("chat", "-m", BUNDLED, "--load-session", "x", "--window", 9), "--window", code=2)
        assert_refused(self, cake("chat", "-m", BUNDLED, "--load-session", "x", "--system-prompt", "y"), "--system-prompt",
                       "start a new conversation", code=2)
        (self.folder / "zero").write_bytes(b"a\0b")
        self.assertIn("zero byte", chat([f"/read {self.folder / 'zero'}\n", "What is it?\n"])[2])


class Terminal(unittest.TestCase):
    """A chat at a terminal: the prompt, line editing, and Ctrl-C, which only stops the answer."""

    def setUp(self):
        self.process, self.terminal = None, None
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(environment(), TERM="dumb")
            arguments = command("chat", "-m", MODELS / "f32.gguf", "-t", 1, "--chat-template", "chatml", "--ignore-eos", "-n", -1)
            os.execv(arguments[0], arguments)
        self.pid, self.terminal, self.seen = pid, fd, b""
        self.addCleanup(self.end)

    def end(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
        os.close(self.terminal)

    def wait_for(self, text, seconds=60):
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            self.assertTrue(ready, f"no {text!r} in {self.seen[-400:]!r}")
            self.seen += os.read(self.terminal, 4096)
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def send(self, text):
        os.write(self.terminal, text)

    def test_ctrl_c_stops_the_answer_and_ctrl_d_ends_the_chat(self):
        self.wait_for(b"> ")
        self.send(b"the rain\n")
        self.wait_for(b"rain")
        time.sleep(1)
        self.send(b"\x03")
        self.wait_for(b"> ")
        self.send(b"/stats\n")
        self.wait_for(b"2 messages")
        self.wait_for(b"> ")
        self.assertEqual(self.end_of_input(), 0)

    def test_ctrl_c_ends_the_reading_of_a_file_and_reads_none_of_it(self):
        with tempfile.TemporaryDirectory() as folder:
            pipe = pathlib.Path(folder) / "pipe"
            os.mkfifo(pipe)
            self.wait_for(b"> ")
            self.send(f"/read {pipe}\n".encode())
            with open(pipe, "wb", buffering=0) as end:
                end.write(b"the first half")
                time.sleep(1)
                self.send(b"\x03")
                self.wait_for(b"cancelled")
        self.wait_for(b"> ")

    def end_of_input(self, seconds=60):
        """Sends Ctrl-D on an empty line and returns the exit code, or None if the program does not end. Input that
        arrives before the terminal is ready for editing may be misread, so the line is cleared and Ctrl-D is sent
        again. Output is read meanwhile, because the program does not end before the terminal has taken all of it."""
        time.sleep(0.3)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.send(b"\x15\x04")
            if select.select([self.terminal], [], [], 0.5)[0]:
                try:
                    os.read(self.terminal, 4096)
                except OSError:
                    pass  # the program has closed the terminal
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                return os.waitstatus_to_exitcode(status)
        return None


if __name__ == "__main__":
    unittest.main()
