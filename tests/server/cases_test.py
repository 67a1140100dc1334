#!/usr/bin/env python3
"""Sends the requests of chat_cases.jsonl, which other clients send and which once failed, and checks the answers."""

import json
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server.served import CHAT, Served, Wire, request, said  # noqa: E402

CASES = {case["name"]: case for case in map(json.loads, pathlib.Path(__file__).with_name("chat_cases.jsonl").open())}
BOUND = 9007199254740991


def is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def has_only(value, *names):
    return isinstance(value, dict) and set(value) == set(names)


# What the answer to a case with a schema has to be.
VALID = {
    "zod-int-bounds": lambda v: has_only(v, "n") and is_integer(v["n"]) and abs(v["n"]) <= BOUND,
    "number-bounds": lambda v: has_only(v, "score") and 0 <= v["score"] <= 1,
    "number-exclusive": lambda v: has_only(v, "x") and v["x"] > 0,
    "maxLength-257": lambda v: has_only(v, "t") and len(v["t"]) <= 257,
    "maxLength-65536": lambda v: has_only(v, "t") and len(v["t"]) <= 65536,
    "ref-into-properties": lambda v: has_only(v, "l", "r") and isinstance(v["l"], str) and isinstance(v["r"], str),
    "pattern": lambda v: has_only(v, "zip") and re.fullmatch(r"[0-9]{5}", v["zip"]),
    "allOf-two": lambda v: is_integer(v["a"]) and isinstance(v["b"], str),
    "format-email": lambda v: has_only(v, "e") and re.fullmatch(r"[^@\s]+@[^@\s]+", v["e"]),
    "tuple-items": lambda v: len(v) == 2 and is_integer(v[0]) and isinstance(v[1], str),
    "json_object-with-schema": lambda v: has_only(v, "zip") and is_integer(v["zip"]),
}


class Cases(Served):
    def answer(self, name, **more):
        """Answers at temperature 1, so that the constraint decides and not the model."""
        return self.good(CASES[name]["path"], {**CASES[name]["body"], **more})

    def test_schemas(self):
        """At temperature 1, so that the constraint decides and not the model, which would not end its strings either."""
        for name, is_valid in VALID.items():
            for seed in range(4):
                with self.subTest(name, seed=seed):
                    answer = self.answer(name, max_tokens=600, temperature=1, seed=seed, logit_bias=self.endings())
                    self.assertEqual(answer["choices"][0]["finish_reason"], "stop", said(answer))
                    self.assertTrue(is_valid(json.loads(said(answer))), said(answer))

    def endings(self):
        """What ends a text comes before what only goes on with it."""
        return {str(self.good("/tokenize", {"content": text, "add_special": False})["tokens"][-1]): bias
                for text, bias in {'"': 40, "}": 20, "]": 20, "@": 20}.items()}

    def test_exactly_one_of(self):
        """A value that is valid for both would be wrong, and llguidance cannot exclude it."""
        case = CASES["oneOf-exactly-one"]
        self.refuse(self.ask("POST", case["path"], case["body"]), 400, "oneOf", param="response_format")

    def test_the_text_of_a_control_token_is_text(self):
        plain = self.answer("special-token-in-content", messages=[{"role": "user", "content": "ab"}])
        typed = self.answer("special-token-in-content")
        self.assertGreater(typed["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"] + 1)

    def test_fields_and_messages(self):
        others = set(CASES) - set(VALID) - {"oneOf-exactly-one", "special-token-in-content", "max_tokens-minus-1", "http10-stream", "same-request-twice"}
        self.assertEqual(others, {"default-system-text", "repeat-penalty", "integral-floats", "top_k-minus-1",
                                  "assistant-null-content", "assistant-empty"})
        for name in others:
            with self.subTest(name):
                self.assertIsInstance(said(self.answer(name)), str)

    def test_an_equal_request_is_not_read_again(self):
        first, second = self.answer("same-request-twice"), self.answer("same-request-twice")
        self.assertEqual(said(second), said(first))
        n = second["usage"]["prompt_tokens"]
        self.assertEqual(second["usage"]["prompt_tokens_details"]["cached_tokens"], n - 1)

    def test_minus_one_is_no_limit(self):
        answer = self.answer("max_tokens-minus-1", grammar='root ::= "a"{60}')
        self.assertEqual((said(answer), answer["choices"][0]["finish_reason"]), ("a" * 60, "stop"))

    def test_a_stream_over_http_1_0_has_no_chunks(self):
        body = json.dumps(CASES["http10-stream"]["body"]).encode()
        data = request("POST", CHAT, body=body).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        with Wire(self.server) as wire:
            head, _, text = wire.send(data).file.read().partition(b"\r\n\r\n")
        self.assertIn(b" 200 ", head.splitlines()[0])
        self.assertNotIn(b"transfer-encoding", head.lower())
        self.assertTrue(text.startswith(b"data: {"), text[:40])
        self.assertTrue(text.endswith(b"data: [DONE]\n\n"), text[-40:])


if __name__ == "__main__":
    unittest.main()
