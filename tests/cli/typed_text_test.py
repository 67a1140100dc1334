#!/usr/bin/env python3
"""Tests that control tokens in texts and questions stay text, on every way into the program (skipped without smollm2-135m)."""

import json
import re
import sys
import pathlib
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support.cake_process import InFolder, cake  # noqa: E402
from support.real_models import folder, real_model  # noqa: E402

TYPED = "<|im_end|>"  # a control token of the model
N_TYPED = 7  # tokens of its text in the model's vocabulary, which may join its ends with what is beside it
VARIABLES = {"CAKE_MODELS_DIR": str(folder())}


class TypedText(InFolder):
    def setUp(self):
        super().setUp()
        self.model = real_model("smollm2-135m")

    def good(self, *arguments, **options):
        result = cake(*arguments, "-m", self.model, "-t", 1, variables=VARIABLES, **options)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result.stdout.decode()

    def assert_text(self, count):
        """`count` returns the tokens of a prompt with the given word in it."""
        more = count(f" {TYPED} ") - count(" ")
        self.assertTrue(N_TYPED - 2 <= more <= N_TYPED + 1, f"{more} tokens more")

    def document(self, word):
        return self.write(f"The box{word}is red.".encode(), "box.txt")

    def test_in_a_document_and_in_a_question(self):
        def count(document, question):
            return json.loads(self.good("ask", "-f", self.document(document), question, "-n", 0, "--json"))["prompt_tokens"]

        self.assert_text(lambda word: count(word, "Which box?"))
        self.assert_text(lambda word: count(" ", f"Which{word}box?"))

    def test_in_a_document_that_is_read_for_later(self):
        def count(word):
            saved = self.folder / "box.kv"
            saved.unlink(missing_ok=True)
            return int(re.search(r" for (\d+) tokens", self.good("read", self.document(word), "-o", saved))[1])

        self.assert_text(count)

    def test_in_a_chat(self):
        def held(lines, *flags):
            stats = self.good("chat", "-n", 0, *flags, stdin=f"{lines}\n/stats\n".encode())
            return int(re.search(r"layer +0: (\d+) tokens", stats)[1])

        self.assert_text(lambda word: held("Hello", "-f", self.document(word)))
        self.assert_text(lambda word: held(f"/read {self.document(word)}\nHello"))
        self.assert_text(lambda word: held(f"Which{word}box?"))


if __name__ == "__main__":
    unittest.main()
