#!/usr/bin/env python3
"""Tests of `cake read`, and of `cake ask` with the files that it writes."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, MODELS, InFolder, assert_refused, cake  # noqa: E402

DOCUMENT = "".join((BUNDLED.parent / "document.txt").read_text().splitlines(keepends=True)[:30])  # about 1,300 tokens
QUESTION = "What is the code of the humble otter?"
ANSWER = "8866"
PLAIN = MODELS / "f32.gguf"  # random weights and no chat template


class Reading(InFolder):
    def setUp(self):
        super().setUp()
        self.document = self.write(DOCUMENT.encode(), "otters.txt")
        self.saved = self.folder / "otters.kv"

    def read(self, *arguments, model=BUNDLED, **options):
        return cake("read", "-m", model, "-t", 1, *arguments, **options)

    def ask(self, *arguments, model=BUNDLED, **options):
        return cake("ask", "-m", model, "-t", 1, "-n", 32, *arguments, **options)

    def good(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.decode()

    def read_it(self, *arguments):
        return self.good(self.read(self.document, "-o", self.saved, "--kv-budget", 400, *arguments))


class Files(Reading):
    def test_what_was_read_once_is_asked_any_number_of_times(self):
        said = self.read_it()
        self.assertRegex(said, r"\A\S+otters\.kv: [\d.]+ KiB for 1,\d\d\d tokens, [\d.]+ % of their full cache of [\d.]+ "
                               r"MiB; read in [\d.]+ s with the policy kvzip\+\n\Z")
        before = self.saved.read_bytes()
        for arguments in ((self.saved, QUESTION), ("-f", self.saved, QUESTION)):
            self.assertIn(ANSWER, self.good(self.ask(*arguments)))
        self.assertEqual(self.saved.read_bytes(), before)

    def test_the_file_is_named_after_the_document(self):
        self.good(self.read("otters.txt", "--kv-budget", 300, cwd=self.folder))
        self.assertTrue(self.saved.exists())
        self.write(b"The box is blue.", "otters.md")
        assert_refused(self, self.read("otters.md", cwd=self.folder), "exists already")

    def test_each_question_is_asked_as_if_it_were_the_only_one(self):
        self.read_it()
        other = "What is the code of the silver falcon?"
        report = json.loads(self.good(self.ask(self.saved, other, QUESTION, "--json")))
        alone = json.loads(self.good(self.ask(self.saved, QUESTION, "--json")))
        self.assertEqual(report["answers"][1]["text"], alone["answers"][0]["text"])

    def test_bytes_that_are_not_utf_8_are_replaced(self):
        document = self.write(b"The caf\xe9 is open.\nThe box is blue.\n", "latin")
        result = self.read(document, "-o", self.saved)
        self.assertIn(b"not UTF-8", result.stderr)
        self.good(result)
        report = json.loads(self.good(self.ask(self.saved, "Which box?", "--json", "-n", 8, "--sources")))
        self.assertIn(report["answers"][0]["sources"][0]["first_line"], (1, 2))

    def test_the_report_says_what_was_loaded_and_what_was_read(self):
        self.read_it()
        report = json.loads(self.good(self.ask(self.saved, QUESTION, "--json", "--sources", 1)))
        self.assertEqual(report["documents"], [str(self.document)])
        self.assertEqual(report["policy"], "kvzip+")
        self.assertGreater(report["loaded_tokens"], 1200)
        self.assertLess(report["prompt_tokens"], 40)
        self.assertEqual(report["kv"]["budget_tokens_per_layer"], 400 + 1024)
        source = report["answers"][0]["sources"][0]
        self.assertEqual(source["document"], str(self.document))
        line = next(n for n, line in enumerate(DOCUMENT.splitlines(), 1) if "humble otter" in line)
        self.assertLessEqual(abs(source["first_line"] - line), 1)

    def test_the_budget_of_the_conversation_is_beside_that_of_the_document(self):
        self.read_it()
        report = json.loads(self.good(self.ask(self.saved, QUESTION, "--json", "--kv-budget", 64)))
        self.assertEqual(report["kv"]["budget_tokens_per_layer"], 464)

    def test_several_documents_and_a_system_message(self):
        other = self.write(b"The box is blue.", "box.txt")
        self.read_it(other, "--system-prompt", "Be brief.")
        report = json.loads(self.good(self.ask(self.saved, QUESTION, "Which colour?", "--json")))
        self.assertEqual(report["documents"], [str(self.document), str(other)])
        self.assertEqual(len(report["answers"]), 2)

    def test_standard_input_needs_the_name_of_the_file(self):
        assert_refused(self, self.read("-", stdin=DOCUMENT.encode()), "-o FILE", code=2)
        self.good(self.read("-", "-o", self.saved, "--kv-budget", 300, stdin=DOCUMENT.encode()))
        self.assertTrue(self.saved.exists())

    def test_in_segments_with_any_policy(self):
        for policy in ("cake", "full", "expected-attention"):
            budget = () if policy == "full" else ("--kv-budget", 300)
            self.good(self.read(self.document, "-o", self.saved, "--policy", policy, "--segment", 500, *budget))
            self.good(self.ask(self.saved, QUESTION, "-n", 4))

    def test_a_model_without_a_template(self):
        self.good(self.read(self.document, "-o", self.saved, "--kv-budget", 64, model=PLAIN))
        report = json.loads(self.good(self.ask(self.saved, QUESTION, "--json", "-n", 4, "--sources", model=PLAIN)))
        self.assertEqual(report["documents"], [str(self.document)])


class Interactive(Reading):
    def test_documents_are_read_before_the_first_question_is_asked(self):
        result = self.ask("-f", self.document, "-i", "--kv-budget", 500, stdin=f"{QUESTION}\n{QUESTION}\n".encode())
        self.assertEqual(self.good(result).count(ANSWER), 2)


class Refusals(Reading):
    def test_of_files(self):
        self.read_it()
        other = self.write(b"The box is blue.", "box.txt")
        assert_refused(self, self.ask("-f", self.saved, "-f", other, QUESTION), "alone", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "--policy", "cake"), "--policy", "read the documents again", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "--kv-ratio", 0.1), "--kv-ratio", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "-c", 9000), "--ctx-size", "--kv-budget", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "--system-prompt", "Be brief."), "--system-prompt", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "-f", other), "alone", code=2)
        assert_refused(self, self.ask(self.saved, QUESTION, "--chat-template", "llama3"), "another chat template")
        framed, plain = self.folder / "framed.kv", self.folder / "plain.kv"
        self.good(self.read(other, "-o", framed, "--chat-template", "chatml", model=PLAIN))
        self.good(self.read(other, "-o", plain, model=PLAIN))
        assert_refused(self, self.ask(framed, QUESTION, model=PLAIN), "pass --chat-template")
        assert_refused(self, self.ask(plain, QUESTION, "--chat-template", "chatml", model=PLAIN), "without a chat template")
        assert_refused(self, self.ask(self.saved, QUESTION, model=PLAIN), "another model")
        self.saved.write_bytes(self.saved.read_bytes()[:-1000])
        assert_refused(self, self.ask(self.saved, QUESTION), "otters.kv")

    def test_of_a_session_that_is_not_a_document(self):
        session = self.folder / "session"
        self.good(cake("run", "-m", BUNDLED, "-t", 1, "-p", "The rain", "-n", 2, "--save-session", session))
        assert_refused(self, self.ask(session, QUESTION), "--load-session")

    def test_of_what_cannot_be_read(self):
        assert_refused(self, self.read(), "document", "-f FILE", code=2)
        assert_refused(self, self.read(self.folder / "none.txt"), "none.txt")
        assert_refused(self, self.read(self.document, "-o", self.folder / "." / self.document.name), "another one")
        assert_refused(self, self.read(self.document, "-o", self.folder / "no" / "folder.kv"), "no folder")
        assert_refused(self, self.read(self.document, "-o", self.folder), "not a plain file")
        assert_refused(self, self.read(self.document, "-o", "-"), "-o")
        assert_refused(self, self.read(self.write(b"a b " * 1_000_000, "long"), "-o", self.saved), "split")
        assert_refused(self, self.read(self.write(b'"q' * 1_500_000, "quotes"), "-o", self.saved), "tokens", "split")
        self.assertEqual(list(self.folder.glob("*.kv")), [])


if __name__ == "__main__":
    unittest.main()
