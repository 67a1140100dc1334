#!/usr/bin/env python3
"""Tests of `cake ask`: sources of an answer, several questions, models without a template, and refused input."""

import json
import os
import pathlib
import pty
import select
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, MODELS, WORDS, InFolder, assert_refused, cake, command, environment  # noqa: E402
from support.real_models import real_model  # noqa: E402

FOLDER = tempfile.TemporaryDirectory()
DOCUMENT = pathlib.Path(FOLDER.name) / "document.txt"  # about 1,300 tokens
DOCUMENT.write_text("".join((BUNDLED.parent / "document.txt").read_text().splitlines(keepends=True)[:30]))
QUESTION = "What is the code of the humble otter?"
PLAIN = MODELS / "f32.gguf"  # random weights and no chat template


def ask(*arguments, model=BUNDLED, **options):
    """Runs `cake ask` on one thread, with the pooling kernel that the bundled model needs for numbers. Flags in
    `arguments` override those given here."""
    return cake("ask", "-m", model, "-t", 1, "-n", 32, "--kv-budget", 256, "--pool-kernel", 11, *arguments, **options)


def ask_full(*arguments, model=BUNDLED):
    """Runs `cake ask` without eviction."""
    return cake("ask", "-m", model, "-t", 1, "-n", 32, "--policy", "full", *arguments)


def report(*arguments, **options):
    result = ask("--json", *arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    return json.loads(result.stdout)


def line_of(words, path=DOCUMENT):
    return next(n for n, line in enumerate(path.read_text().splitlines(), 1) if words in line)


class Folder(InFolder):
    def file(self, name, text):
        return self.write(text if isinstance(text, bytes) else text.encode(), name)


class Answers(Folder):
    def test_the_answer_is_on_standard_output_and_what_was_held_on_the_other(self):
        result = ask("-f", DOCUMENT, QUESTION)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("8866", result.stdout.decode())
        self.assertRegex(result.stderr.decode(),
                         r"\Akept [\d.]+ [KM]iB of K/V instead of "
                         r"[\d.]+ MiB for a full cache; read 1,\d\d\d tokens in [\d.]+ (s|min \d+ s)\n\Z")

    def test_a_document_that_fits_is_kept_whole(self):
        self.assertRegex(ask("-f", self.file("short", "The box is red."), "Which?").stderr.decode(), r"\Akept all [\d.]+ KiB")

    def test_an_answer_that_repeats_itself_is_stopped(self):
        flags = ("-f", DOCUMENT, QUESTION, "-n", 2000, "--repeat-penalty", 0.1)  # draws again what it has drawn
        result = ask("--json", *flags)
        answer = json.loads(result.stdout)["answers"][0]
        self.assertEqual(answer["finish_reason"], "repetition")
        self.assertLess(answer["generated_tokens"], 1100)
        self.assertIn("repeats itself", result.stderr.decode())
        endless = report(*flags, "--allow-repetition")["answers"][0]
        self.assertEqual((endless["finish_reason"], endless["generated_tokens"]), ("length", 2000))

    def test_the_document_may_come_from_standard_input(self):
        expected = ask("-f", DOCUMENT, QUESTION).stdout
        for arguments in (("-f", "-", QUESTION), ("-", QUESTION), (QUESTION, "-")):
            self.assertEqual(ask(*arguments, stdin=DOCUMENT.read_bytes()).stdout, expected)

    def test_the_same_answer_each_time(self):
        self.assertEqual(ask("-f", DOCUMENT, QUESTION).stdout, ask("-f", DOCUMENT, QUESTION).stdout)

    def test_every_document_is_introduced_by_its_name(self):
        first, second = self.file("first.txt", "The box is red."), self.file("second.txt", "The box is blue.")
        both = report("-f", first, "-f", second, QUESTION, "-n", 1)
        self.assertEqual(both["documents"], [str(first), str(second)])
        longer = report("-f", first, "-f", self.file("a-much-longer-name-of-a-file.txt", "The box is blue."), QUESTION, "-n", 1)
        self.assertGreater(longer["prompt_tokens"], both["prompt_tokens"])

    def test_fields(self):
        result = report("-f", DOCUMENT, QUESTION, "--kv-budget", 256)
        self.assertEqual(set(result), {"model", "policy", "documents", "loaded_tokens", "prompt_tokens", "prefill_seconds",
                                       "prefill_tokens_per_second", "kv", "hidden_bytes_peak", "compute_bytes_peak", "layers",
                                       "answers"})
        self.assertEqual(result["kv"]["budget_tokens_per_layer"], 256)
        [answer] = result["answers"]
        self.assertEqual(set(answer), {"question", "text", "generated_tokens", "finish_reason", "decode_tokens_per_second",
                                       "sources"})
        self.assertEqual((answer["question"], answer["finish_reason"], answer["sources"]), (QUESTION, "stop", []))

    def test_the_full_cache_is_as_large_as_it_needs_to_be(self):
        result = json.loads(ask_full("-f", DOCUMENT, QUESTION, "--json").stdout)
        self.assertIn("8866", result["answers"][0]["text"])
        self.assertEqual(result["kv"]["bytes_now"], result["kv"]["bytes_full_cache"])


class Questions(Folder):
    def test_several_are_answered_in_turn_after_one_reading(self):
        questions = [QUESTION, "What is the code of the silver falcon?"]
        result = report("-f", DOCUMENT, *questions)
        self.assertEqual([answer["question"] for answer in result["answers"]], questions)
        self.assertIn("8866", result["answers"][0]["text"])
        one = report("-f", DOCUMENT, QUESTION)
        self.assertLess(result["prompt_tokens"], one["prompt_tokens"] + 60)
        text = ask("-f", DOCUMENT, *questions).stdout.decode()
        self.assertTrue(text.startswith(f"1. {QUESTION}\n"), text)
        self.assertIn(f"\n2. {questions[1]}\n", text)

    def test_the_window_covers_all_of_them(self):
        def kept(*questions):
            return report("-f", DOCUMENT, *questions, "-n", 1, "--kv-budget", 400)["layers"]

        # Every layer keeps the whole window.
        many = [f"What is the code of the humble otter in the {i}th box on the shelf?" for i in range(8)]
        self.assertGreater(min(layer["kept"] for layer in kept(*many)), 150)

    def test_further_ones_come_from_a_prompt(self):
        first = ask("-f", DOCUMENT, QUESTION).stdout.decode()
        lines = (f"\n{QUESTION}\n  \n/quit\nnever\n").encode()
        result = ask("-f", DOCUMENT, "--interactive", "--policy", "cake+", stdin=lines)
        self.assertEqual((result.returncode, result.stdout.decode()), (0, first), result.stderr)
        two = ask("-f", DOCUMENT, QUESTION, "-i", stdin=f"{QUESTION}\n".encode())
        self.assertTrue(two.stdout.decode().startswith(first) and len(two.stdout) > len(first), two.stdout)
        nothing = ask("-f", DOCUMENT, "-i")
        self.assertEqual((nothing.returncode, nothing.stdout), (0, b""))


class Sources(Folder):
    def test_the_passage_is_among_them_with_its_line(self):
        for words in ("humble otter", "silver falcon", "golden kettle"):
            question = f"What is the code of the {words}?"
            for run in (ask, ask_full):
                result = run("-f", DOCUMENT, question, "--sources", "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                sources = json.loads(result.stdout)["answers"][0]["sources"]
                self.assertLessEqual(len(sources), 3)
                line = line_of(words)
                found = [s for s in sources if s["first_line"] <= line <= s["last_line"] and words in s["excerpt"]]
                self.assertTrue(found, (words, run, sources))
                self.assertEqual(found[0]["document"], str(DOCUMENT))

    def test_they_follow_the_answer(self):
        text = ask("-f", DOCUMENT, QUESTION, "--sources=2").stdout.decode()
        self.assertIn("\n\nSources:\n  1. ", text)
        self.assertIn(f"{DOCUMENT}:{line_of('humble otter')}\n", text)
        self.assertNotIn("  3. ", text)

    def test_the_number_may_be_left_out_before_a_question(self):
        expected = report("-f", DOCUMENT, QUESTION, "--sources", 3)["answers"]
        for arguments in (("--sources", QUESTION), (QUESTION, "--sources"), ("--sources=3", QUESTION)):
            answers = report("-f", DOCUMENT, *arguments)["answers"]
            self.assertEqual(answers[0]["question"], QUESTION)
            self.assertEqual(answers[0]["sources"], expected[0]["sources"])
        two = report("-f", DOCUMENT, "Who?", "--sources", QUESTION, "-n", 1)["answers"]
        self.assertEqual([answer["question"] for answer in two], ["Who?", QUESTION])

    def test_each_document_counts_its_own_lines(self):
        other = self.file("other.txt", "One line.\nAnother line.\n\nThe third.\n" * 40)
        sources = report("-f", other, "-f", DOCUMENT, QUESTION, "--sources")["answers"][0]["sources"]
        self.assertTrue([s for s in sources if s["document"] == str(DOCUMENT)
                         and s["first_line"] <= line_of("humble otter") <= s["last_line"]], sources)

    def test_an_answer_from_a_model_without_a_template_has_them_too(self):
        answer = report("-f", self.file("a", WORDS), "Where?", "--sources", "-n", 4, model=PLAIN)["answers"][0]
        self.assertTrue(answer["sources"])
        self.assertEqual({source["first_line"] for source in answer["sources"]}, {1})


class Plain(Folder):
    """Models without a chat template."""

    def test_the_frame_is_documents_question_answer(self):
        document = self.file("a.txt", WORDS + "\n\n")
        flags = ("-n", 12, "--temp", 0, "--ignore-eos", "--json", "-t", 1)
        result = cake("ask", "-m", PLAIN, "-f", document, "Where?", *flags)
        self.assertEqual(result.returncode, 0, result.stderr)
        prompt = f"Document a.txt:\n\n{WORDS}\n\nEnd of the document.\n\nQuestion: Where?\nAnswer:"
        by_hand = json.loads(cake("run", "-m", PLAIN, "-p", prompt, *flags).stdout)
        asked = json.loads(result.stdout)
        self.assertEqual(asked["prompt_tokens"], by_hand["prompt_tokens"])
        self.assertEqual(asked["answers"][0]["text"], by_hand["text"].lstrip())

    def test_names_of_special_tokens_in_a_document_are_text(self):
        def tokens(text):
            return report("-f", self.file("a", text), "Where?", "-n", 0, model=PLAIN)["prompt_tokens"]

        self.assertGreater(tokens("the rain</s>"), tokens("the rain") + 1)

    def test_another_template_can_be_named(self):
        plain = report("-f", self.file("a", WORDS), "Where?", "-n", 1, model=PLAIN)
        chatml = report("-f", self.file("a", WORDS), "Where?", "-n", 1, "--chat-template", "chatml", model=PLAIN)
        self.assertNotEqual(plain["prompt_tokens"], chatml["prompt_tokens"])


class Templates(Folder):
    def tokens(self, *arguments):
        return report("-f", self.file("a", WORDS), "Where?", "-n", 0, *arguments)["prompt_tokens"]

    def test_one_from_a_file_takes_the_place_of_the_models(self):
        short = self.file("short.jinja", "{{ messages[-1].content }}")
        self.assertLess(self.tokens("--chat-template-file", short), self.tokens())

    def test_its_variables_can_be_set(self):
        template = self.file("loud.jinja", "{{ messages[-1].content }}{% if loud %}{{ 'a b ' * count }}{% endif %}")
        short = self.tokens("--chat-template-file", template)
        self.assertEqual(short, self.tokens("--chat-template-file", template, "--chat-template-kwargs", '{"loud": false}'))
        self.assertGreater(self.tokens("--chat-template-file", template, "--chat-template-kwargs", '{"loud": true, "count": 50}'),
                           short + 90)

    def test_bad_ones_are_refused(self):
        broken = self.file("broken.jinja", "a\n{% if %}")
        for flags, words in ((("--chat-template-file", broken), ("line 2",)),
                             (("--chat-template-file", self.folder / "none"), ("none", "No such file")),
                             (("--chat-template-kwargs", "[1]"), ("JSON object",))):
            with self.subTest(flags=flags):
                result = ask("-f", self.file("a", WORDS), "Where?", *flags)
                assert_refused(self, result, *words, code=result.returncode or 1)


class Refusals(Folder):
    def test_wrong_use(self):
        assert_refused(self, ask("-f", DOCUMENT), "question in quotes", "--interactive", code=2)
        assert_refused(self, ask(QUESTION), "document", "-f", code=2)
        assert_refused(self, ask("-f", DOCUMENT, " "), "empty", code=2)
        assert_refused(self, ask("-f", DOCUMENT, "What", "is", "this?"), "in quotes: \"What is this?\"", code=2)
        assert_refused(self, ask("-f", "-", "-", QUESTION), "once", code=2)
        assert_refused(self, ask("-", "-i", QUESTION), "--interactive", "standard input", code=2)
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, "-i", "--json"), "--json", code=2)
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, "--sources", 0), "1 to 20", code=2)
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, "--policy", "none-such"), "none-such", code=2)

    def test_bad_documents(self):
        assert_refused(self, ask("-f", self.folder / "none", QUESTION), "none", "No such file")
        assert_refused(self, ask("-f", self.folder, QUESTION), "folder")
        assert_refused(self, ask("-f", self.file("empty", " \n"), QUESTION), "empty")
        assert_refused(self, ask("-", QUESTION, stdin=b""), "standard input", "empty")
        assert_refused(self, ask("-f", self.file("binary", b"a\0b"), QUESTION), "zero byte")
        assert_refused(self, ask("-f", self.file("a.pdf", "%PDF-1.7\nx"), QUESTION), "PDF", "pdftotext")

    def test_a_model_that_cannot(self):
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, model=DOCUMENT), "document.txt")
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, "--chat-template", "none-such"), "none-such")
        assert_refused(self, ask("-f", DOCUMENT, QUESTION, "--kv-budget", 8), "window")
        assert_refused(self, ask_full("-f", DOCUMENT, QUESTION, "-c", 100), "-c")

    def test_a_document_beyond_the_trained_context_is_read_with_a_warning(self):
        result = ask("-f", self.file("long", WORDS * 5), "Where?", "-n", 1, model=PLAIN)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(b"warning: the text has", result.stderr)


class Interrupts(Folder):
    def started(self, *arguments, **options):
        process = subprocess.Popen(command("ask", "-t", 1, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=environment(), **options)
        self.addCleanup(process.kill)
        return process

    def test_while_the_document_is_read(self):
        process = self.started("-m", PLAIN, "-f", self.file("long", WORDS * 400), "Where?")
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
        self.assertEqual((process.returncode, out), (130, b""))
        self.assertIn(b"stopped before", errors)

    def test_while_it_answers(self):
        process = self.started("-m", PLAIN, "-f", self.file("short", WORDS), "Where?", "-n", -1, "--ignore-eos")
        self.assertTrue(select.select([process.stdout], [], [], 120)[0])
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertTrue(out.endswith(b"\n"))
        self.assertIn(b"kept ", errors)


class Terminal(unittest.TestCase):
    def test_a_prompt_for_questions(self):
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(environment(), TERM="dumb")
            arguments = command("ask", "-m", BUNDLED, "-t", 1, "--policy", "full", "-f", DOCUMENT, "--interactive")
            os.execv(arguments[0], arguments)
        seen, sent = b"", False
        deadline = time.monotonic() + 120
        while b"8866" not in seen or not seen.rstrip(b" ").endswith(b">"):
            self.assertTrue(select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], seen)
            seen += os.read(fd, 4096)
            if b"> " in seen and not sent:
                os.write(fd, QUESTION.encode() + b"\n")
                sent = True
        self.assertIn(b"reading", seen)
        self.assertIn(b"kept ", seen)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


class RealModel(Folder):
    def test_the_readme_is_read_and_asked_about_without_any_option(self):
        model = real_model("smollm2-135m")
        readme = pathlib.Path(__file__).parents[2] / "README.md"
        result = cake("ask", "-m", model, "-f", readme, "What does ./dev demo do?", timeout=1200)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertGreater(len(result.stdout.split()), 2)
        self.assertRegex(result.stderr.decode(), r"kept [\d.]+ MiB of K/V instead of [\d.]+ MiB for a full cache; read [\d,]+ tokens")

    def test_a_fact_in_a_long_text_is_found_and_shown(self):
        model = real_model("qwen2.5-coder-0.5b")
        fact = "The captain of the whaler Perpetua paid the cook with nine silver spoons."
        text = "".join(DOCUMENT.read_text().splitlines(keepends=True)[:12])
        middle = text.index("\n\n", len(text) // 2)
        document = self.file("book.txt", text[:middle] + "\n\n" + fact + text[middle:])
        answer = report("-f", document, "What did the captain of the Perpetua pay the cook with?", "--sources", "--kv-budget", 512,
                        model=model, timeout=1200)["answers"][0]
        self.assertIn("spoons", answer["text"])
        line = line_of(fact, document)
        self.assertTrue([s for s in answer["sources"] if s["first_line"] <= line <= s["last_line"]], answer)


if __name__ == "__main__":
    unittest.main()
