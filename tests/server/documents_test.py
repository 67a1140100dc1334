#!/usr/bin/env python3
"""Tests of documents that `cake read` has saved and the server offers by name."""

import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server.served import CHAT, DOCUMENT, Served, said  # noqa: E402
from support.cake_process import BUNDLED, cake  # noqa: E402
from support.server import Server  # noqa: E402

TEXT = "".join(DOCUMENT.splitlines(keepends=True)[:30])
QUESTION = "What is the code of the humble otter?"
TEMPLATE = ("--chat-template", "chatml")  # the bundled model has none


class Documents(Served):
    MORE = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.read("otters")
        asked = cake("ask", "-m", BUNDLED, "-t", 1, cls.folder / "otters.kv", QUESTION, "-n", 32, *TEMPLATE)
        assert asked.returncode == 0, asked.stderr
        cls.answer = asked.stdout.decode().strip()
        (cls.folder / "broken.kv").write_bytes(b"CAKESESS, but no more")
        cls.FLAGS = ("--documents", str(cls.folder), *cls.MORE)
        super().setUpClass()

    @classmethod
    def read(cls, name, *arguments):
        budget = () if "full" in arguments or "--kv-budget" in arguments else ("--kv-budget", 400)
        result = cake("read", "-m", BUNDLED, "-t", 1, "-", "-o", cls.folder / f"{name}.kv", *budget,
                      *TEMPLATE, *map(str, arguments),
                      stdin=TEXT.encode())
        assert result.returncode == 0, result.stderr

    def about(self, *questions, document="otters", **more):
        roles = ("user", "assistant")
        messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(questions)]
        return {"document": document, "messages": messages, "temperature": 0, "max_tokens": 32, **more}

    def cached(self, answer):
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_they_are_listed_with_what_they_are(self):
        for path in ("/documents", "/v1/documents"):
            status, _, answer = self.ask("GET", path)
            self.assertEqual(status, 200)
            of_name = {document["id"]: document for document in answer["data"]}
            self.assertIn("session", of_name["broken"]["error"])
            otters = of_name["otters"]
            self.assertEqual((otters["id"], otters["policy"], otters["kv_budget"]), ("otters", "kvzip+", 400))
            self.assertGreater(otters["n_tokens"], 1200)

    def test_a_question_is_answered_without_reading_the_document(self):
        answer = self.good(CHAT, self.about(QUESTION))
        self.assertEqual(said(answer).strip(), self.answer)
        self.assertGreater(self.cached(answer), 1200)
        self.assertLess(answer["usage"]["prompt_tokens"] - self.cached(answer), 40)

    def test_answers_are_the_same_however_often_and_by_whom(self):
        for user in ("a", "b", "a"):
            self.assertEqual(said(self.good(CHAT, self.about(QUESTION, user=user))).strip(), self.answer)

    def test_a_conversation_continues_from_its_own_cache(self):
        first = self.good(CHAT, self.about(QUESTION, user="turns"))
        turns = (QUESTION, said(first), "And that of the rain?")
        second = self.good(CHAT, self.about(*turns, user="turns"))
        self.assertGreater(self.cached(second), self.cached(first))
        other = self.good(CHAT, self.about(*turns, user="other"))
        self.assertEqual(self.cached(other), self.cached(first))

    def test_a_system_message_stands_behind_the_document(self):
        alone = self.good(CHAT, self.about(QUESTION))
        body = self.about(QUESTION)
        body["messages"].insert(0, {"role": "system", "content": "Answer with the code."})
        answer = self.good(CHAT, body)
        self.assertGreater(self.cached(answer), 1200)
        self.assertGreater(answer["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"])
        prompt = self.good("/apply-template", body)["prompt"]
        order = [prompt.index(part) for part in (TEXT[:40], TEXT[-40:].strip(), "Answer with the code.", QUESTION)]
        self.assertEqual(order, sorted(order))

    def test_the_other_apis_have_them_too(self):
        body = {"document": "otters", "max_tokens": 32, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
        self.assertEqual(self.good("/v1/messages", body)["content"][0]["text"].strip(), self.answer)
        answer = self.good("/v1/responses", {"document": "otters", "input": QUESTION, "temperature": 0, "max_output_tokens": 32})
        self.assertEqual(answer["output"][-1]["content"][0]["text"].strip(), self.answer)

    def test_a_document_may_appear_and_change_while_the_server_runs(self):
        self.read("later")
        first = self.good(CHAT, self.about(QUESTION, document="later"))
        self.read("later", "--system-prompt", "A longer beginning of the whole text.")
        second = self.good(CHAT, self.about(QUESTION, document="later"))
        self.assertGreater(self.cached(second), self.cached(first))
        self.read("later", "--policy", "full")
        self.refused(self.about(QUESTION, document="later"), "document", "later", "full")
        (self.folder / "later.kv").unlink()
        self.refused(self.about(QUESTION, document="later"), "document", "later")

    def test_a_document_that_can_never_fit_is_refused_with_the_reason(self):
        with Server("--documents", self.folder, "--parallel", 1, "--kv-budget", 300) as small:
            [listed] = [document for document in small.ask("GET", "/documents")[2]["data"] if document["id"] == "otters"]
            status, _, answer = small.ask("POST", CHAT, self.about(QUESTION))
        self.assertIn("--kv-memory", listed["error"])
        self.assertEqual((status, answer["error"]["param"]), (400, "document"))
        self.assertEqual(answer["error"]["message"], listed["error"])

    def refused(self, body, field, *words):
        status, _, answer = self.ask("POST", CHAT, body)
        self.assertEqual((status, answer["error"]["param"]), (400, field), answer)
        for word in words:
            self.assertIn(word, answer["error"]["message"])

    def test_wrong_requests_are_refused_by_name(self):
        for name in ("none", "../otters", "/etc/passwd", ""):
            self.refused(self.about(QUESTION, document=name), "document", "otters")
        self.refused(self.about(QUESTION, document="broken"), "document", "broken")
        self.refused(self.about(QUESTION, document=7), "document")
        self.refused(self.about(QUESTION, policy="cake"), "policy")
        self.refused(self.about(QUESTION, n=2), "n")
        self.good(CHAT, self.about(QUESTION, policy=None, max_tokens=1))
        status, _, answer = self.ask("POST", "/v1/completions", {"document": "otters", "prompt": "a"})
        self.assertEqual((status, answer["error"]["param"]), (400, "document"))
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        self.refused(self.about(QUESTION, tools=[tool]), "tools")
        body = self.about(QUESTION)
        body["messages"][0]["role"] = "assistant"
        self.refused(body, "messages", "message of the user")


class Segments(Documents):
    """A server that reads prompts in segments."""

    MORE = ("--segment", 256)


class Without(Served):
    def test_a_server_without_a_folder_says_so(self):
        status, _, answer = self.ask("POST", CHAT, {"document": "otters", "messages": [{"role": "user", "content": "?"}]})
        self.assertEqual(status, 400)
        self.assertIn("--documents", answer["error"]["message"])
        self.assertEqual(self.ask("GET", "/documents")[2]["data"], [])


if __name__ == "__main__":
    unittest.main()
