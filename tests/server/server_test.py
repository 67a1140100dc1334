#!/usr/bin/env python3
"""Tests of `cake serve` with clients that send good or wrong requests, are slow, disconnect, or are malicious."""

import concurrent.futures
import contextlib
import json
import math
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import unittest
import urllib.parse
from unittest.mock import ANY

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from server.served import (  # noqa: E402
    CHAT, DOCUMENT, PATIENCE, QUESTION, SOON, TEXT, Served, Wire, choices_of, fields, reasons, request, said, told, until)
from support.cake_process import BUNDLED, WORDS, assert_refused, cake, command, environment  # noqa: E402
from support.server import Server, events  # noqa: E402

MODEL, N_LAYER, N_VOCAB, TRAINED = "cake-mini", 6, 1536, 4096
TOKEN_BYTES = 256  # per layer: K and V of two heads, each 32 values in f16
PARALLEL = 4       # default of --parallel
MOST_BODY_BYTES = 32 << 20
MULTI_BYTE = 'root ::= "日本語🍰 é" x\nx ::= " ü☃"'


class UnknownFields(unittest.TestCase):
    def test_each_is_named_once_in_the_log(self):
        with Server() as server:
            for _ in range(3):
                self.assertEqual(server.ask("POST", TEXT, {**fields(TEXT), "temprature": 1, "a\nb": 1, "日" * 99: 1})[0], 200)
            self.assertEqual(server.stop(), 0)
        for name in ("temprature", "a?b", "日" * 13 + "…"):
            self.assertEqual(server.errors.count(f'warning: requests have a field "{name}"'), 1, server.errors)
        self.assertEqual(server.errors.count("warning"), 3, server.errors)


class Connections(Served):
    def test_headers_beyond_the_limits(self):
        for name, data, status in (
                ("a long header", request("GET", "/health", "X: " + "a" * 9000), 400),
                ("a very long header", request("GET", "/health", "X: " + "a" * 60_000), 400),
                ("many headers", request("GET", "/health", *(f"X{i}: a" for i in range(1000))), 400),
                ("a long path", request("GET", "/" + "a" * 9000), 414)):
            with self.subTest(name), Wire(self.server) as wire:
                self.refuse(wire.send(data).answer(), status)

    def test_what_is_no_http(self):
        for data in (b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", b"GET /health HTTP/1.1\r\nX : space\r\n\r\n"):
            with self.subTest(data=data), Wire(self.server) as wire:
                self.refuse(wire.send(data).answer(), 400)

    def test_lengths_that_are_none(self):
        for headers in (["Content-Length: -1"], ["Content-Length: ten"], ["Content-Length: 2", "Content-Length: 3"],
                        ["Content-Length: 2", "Transfer-Encoding: chunked"]):
            with self.subTest(headers=headers), Wire(self.server) as wire:
                self.refuse(wire.send(request("POST", "/tokenize", *headers) + b"{}").answer(), 400)

    def test_what_follows_a_refused_request_is_not_read_as_another(self):
        """The answer has Connection: close, because the bytes that follow may be the body of the refused request."""
        hidden = request("GET", "/v1/models")
        for name, data in (
                ("headers that are too large", request("GET", "/health", "X: " + "a" * 9000, "Y: b")),
                ("a line that is none", b"GET /health HTTP/1.1\r\nno colon\r\n" + hidden),
                ("a foreign origin", request("POST", TEXT, "Origin: http://evil.example", body=hidden)),
                ("a compressed body", request("POST", TEXT, "Content-Encoding: gzip", body=hidden)),
                ("a path that is not there", request("POST", "/none", body=b"{}") + hidden)):
            with self.subTest(name), Wire(self.server) as wire:
                status, headers, _ = wire.send(data).answer()
                self.assertGreaterEqual(status, 400)
                self.assertEqual(headers["Connection"], "close")
                self.assertTrue(wire.has_ended(), "there is a second answer, or it stays open")

    def test_a_body_that_is_announced_too_large_is_refused_before_it_comes(self):
        for n_bytes in (MOST_BODY_BYTES + 1, 1 << 40, 10**30):
            with self.subTest(n_bytes=n_bytes), Wire(self.server, SOON) as wire:
                self.refuse(wire.send(request("POST", TEXT, f"Content-Length: {n_bytes}")).answer(), 413, "32 MiB")

    def test_a_body_that_turns_out_too_large(self):
        chunk = b"100000\r\n" + b"a" * (1 << 20) + b"\r\n"
        with Wire(self.server) as wire:
            with contextlib.suppress(ConnectionError):  # the server need not read all of it
                wire.send(request("POST", TEXT, "Transfer-Encoding: chunked") + chunk * 40)
            self.refuse(wire.answer(), 413, "32 MiB")

    def test_a_body_in_chunks(self):
        body = b'f\r\n{"content":"a"}\r\n0\r\n\r\n'
        for good in (True, False):
            with self.subTest(good=good), Wire(self.server) as wire:
                wire.send(request("POST", "/tokenize", "Transfer-Encoding: chunked") + (b"" if good else b"z") + body)
                answer = wire.answer()
                if good:
                    self.assertEqual((answer[0], len(answer[2]["tokens"])), (200, 1))
                else:
                    self.refuse(answer, 400)

    def test_the_content_type_does_not_matter(self):
        """curl -d sends application/x-www-form-urlencoded by default."""
        for n in (10, 10_000):
            for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded"):
                with self.subTest(n=n, kind=kind):
                    status, _, answer = self.ask("POST", "/tokenize", {"content": "a " * n}, {"Content-Type": kind})
                    self.assertEqual(status, 200, answer)

    def test_pipelined_requests_are_answered_in_order(self):
        with Wire(self.server) as wire:
            wire.send(b"".join(request("POST", TEXT, body=fields(TEXT, max_tokens=n)) for n in (3, 2, 1)) +
                      request("GET", "/health"))
            answers = [wire.answer()[2] for _ in range(4)]
        self.assertEqual([answer["usage"]["completion_tokens"] for answer in answers[:3]], [3, 2, 1])
        self.assertEqual(answers[3], {"status": "ok"})

    def test_a_connection_stays_open_for_the_next_request(self):
        with Wire(self.server) as wire:
            for _ in range(20):
                self.assertEqual(said(wire.send(request("POST", TEXT, body=fields(TEXT))).answer()[2]), self.first)

    def test_old_and_careful_clients(self):
        with Wire(self.server) as wire:
            self.assertEqual(wire.send(b"GET /health HTTP/1.0\r\n\r\n").answer()[2], {"status": "ok"})
            self.assertTrue(wire.has_ended())
        head, gap, body = request("POST", TEXT, "Expect: 100-continue", body=fields(TEXT)).partition(b"\r\n\r\n")
        with Wire(self.server) as wire:
            wire.send(head + gap)
            self.assertEqual([wire.file.readline() for _ in range(2)], [b"HTTP/1.1 100 Continue\r\n", b"\r\n"])
            self.assertEqual(said(wire.send(body).answer()[2]), self.first)

    def test_other_methods_and_paths(self):
        for method, path in (("GET", TEXT), ("PUT", TEXT), ("DELETE", "/slots/x"), ("PATCH", "/slots"),
                             ("OPTIONS", CHAT), ("OPTIONS", "*"), ("POST", "/v1/models"), ("GET", "/none"),
                             ("GET", "/../../etc/passwd"), ("GET", "/health/"), ("GET", "//")):
            with self.subTest(method=method, path=path):
                self.refuse(self.ask(method, path), 404, f"there is nothing at {method} {path}")
        self.refuse(self.ask("GET", "/" + "%e6%97%a5" * 100), 404, "日…")

    def test_head_has_no_body(self):
        for path, status in (("/", 200), ("/v1/models", 200), ("/none", 404)):
            with self.subTest(path=path), Wire(self.server) as wire:
                wire.send(request("HEAD", path, "Connection: close"))
                got, headers, _ = wire.answer(with_body=False)
                self.assertEqual(got, status)
                self.assertGreater(int(headers["Content-Length"]), 0)
                self.assertTrue(wire.has_ended())

    def test_other_sites_and_other_names(self):
        here = f"127.0.0.1:{self.server.port}"
        for host, *headers in ((here, "Origin: http://evil.example"), (here, "Origin: null"), ("evil.example",),
                               (here, f"Origin: http://{here}.evil.example"), ("127.0.0.1.evil.example",),
                               ("localhost.evil.example:80",)):
            with self.subTest(host=host, headers=headers), Wire(self.server) as wire:
                self.refuse(wire.send(request("GET", "/v1/models", *headers, host=host)).answer(), 403)
        for host, *headers in ((here,), (here, f"Origin: http://{here}"), ("localhost:1",), ("[::1]:1",), ("192.0.2.1",)):
            with self.subTest(host=host, headers=headers), Wire(self.server) as wire:
                self.assertEqual(wire.send(request("GET", "/v1/models", *headers, host=host)).answer()[0], 200)

    def test_a_compressed_body(self):
        self.refuse(self.ask("POST", TEXT, b"\x1f\x8b", {"Content-Encoding": "gzip"}), 415, "compressed")

    def test_a_body_that_says_that_it_is_not_compressed(self):
        self.assertEqual(self.ask("POST", TEXT, fields(TEXT), {"Content-Encoding": "identity"})[0], 200)


class Bodies(Served):
    def test_what_is_no_json_object(self):
        for body, word in ((b"", "no body"), (b"[]", "object"), (b"null", "object"), (b'"a"', "object"), (b"{", "JSON"),
                           (b'{"prompt":"a"}x', "JSON"), (b'{"prompt":"a",}', "JSON"), (b'{"prompt":"a"/**/}', "JSON"),
                           (b'{"prompt":"caf\xe9"}', "UTF-8"), (b'{"prompt":"\xed\xa0\x80"}', "UTF-8"),
                           (b'{"prompt":"\\ud800"}', "JSON"), (b'{"prompt":"a\nb"}', "JSON"), (b"\0", "JSON"),
                           (b'{"n":NaN}', "JSON"), (b'{"n":Infinity}', "JSON"), (b'{"n":+1}', "JSON"),
                           (b"[" * 100_000, "64"), (b'{"a":' * 100_000, "64"), (b'{"a":"' + b"\\" * 99_999, "JSON")):
            for path in (TEXT, CHAT, "/tokenize", "/detokenize"):
                with self.subTest(body=body[:40], path=path):
                    self.refuse(self.ask("POST", path, body), 400, word)

    def test_a_number_that_is_too_large_for_any_machine(self):
        for name in ("temperature", "n", "seed"):
            with self.subTest(name=name):
                self.refuse(self.ask("POST", TEXT, f'{{"prompt":"a","{name}":1e400}}'), 400, name, param=name)

    def test_numbers_out_of_bounds(self):
        real = {"temperature": (-0.1, 101), "top_p": (-0.1, 1.1), "min_p": (-0.1, 1.1),
                "frequency_penalty": (-2.1, 2.1), "presence_penalty": (-2.1, 2.1)}
        whole = {"top_k": (-2, 2**30 + 1), "seed": (-2**63 - 1,), "n": (-1, 0, PARALLEL + 1),
                 "max_tokens": (-2, 2**31 + 1), "kv_budget": (-1, 0, 2**31 + 1)}
        of_path = {TEXT: {"logprobs": (-1, 6), "best_of": (-1, 0, PARALLEL + 1)},
                   CHAT: {"top_logprobs": (-1, 21), "max_completion_tokens": (-2, 2**31 + 1)}}
        for path in (TEXT, CHAT):
            for name, bounds in {**real, **whole, **of_path[path]}.items():
                fractions = () if name in real else (1.5, 1e300)
                for value in (*bounds, *fractions, 2**63, 2**64, -1e308, "1", "", True, False, [1], {}):
                    self.refuse_fields(path, {name: value}, name, param=name)

    def test_whole_numbers_with_a_point(self):
        for path in (TEXT, CHAT):
            self.assertEqual(self.say(path, max_tokens=6.0, seed=1.0, n=1.0), self.say(path, max_tokens=6, seed=1, n=1))

    def test_no_limit_is_minus_one(self):
        for path in (TEXT, CHAT):
            answer = self.good(path, fields(path, max_tokens=-1, grammar='root ::= "a"{40}'))
            self.assertEqual((said(answer), answer["choices"][0]["finish_reason"]), ("a" * 40, "stop"))

    def test_an_assistant_may_have_said_nothing(self):
        for content in ({"content": None}, {"content": ""}, {}):
            messages = [{"role": "user", "content": "hi"}, {"role": "assistant", **content}, {"role": "user", "content": "again"}]
            self.good(CHAT, {"messages": messages, "max_tokens": 4})
        self.refuse(self.ask("POST", CHAT, {"messages": [{"role": "user", "content": None}]}), 400, "content", param="messages")

    def test_fields_of_another_type(self):
        for path, name in ((TEXT, "echo"), (CHAT, "logprobs")):
            for flag in ("stream", "ignore_eos", "cache_prompt", name):
                for value in (1, "true", [], {}):
                    with self.subTest(path=path, flag=flag, value=value):
                        self.refuse(self.ask("POST", path, fields(path, **{flag: value})), 400, flag, param=flag)
            for name in ("grammar", "policy", "response_format", "stream_options", "stop", "logit_bias"):
                for value in (1, True, [1]):
                    self.refuse_fields(path, {name: value}, name, param=name)
            self.refuse_fields(path, {"stream_options": {"include_usage": 1}}, "include_usage", param="stream_options")

    def test_fields_that_are_not_there_have_no_effect(self):
        for path in (TEXT, CHAT):
            self.assertEqual(self.say(path, **{name: 1 for name in ("temprature", "", "\0", "日本", "日" * 1000)}), self.say(path))
        for path, body in (("/tokenize", {"content": "a"}), ("/detokenize", {"tokens": []})):
            self.assertEqual(self.good(path, {**body, "none": 1}), self.good(path, body))

    def test_bodies_that_would_take_much_more_memory(self):
        for body, word in ((b'{"prompt": [' + b"[]," * 600_000 + b"[]]}", "524288"), (b'{"prompt": [' + b"1," * 3_000_000 + b"1]}", "2097152")):
            self.refuse(self.ask("POST", TEXT, body), 400, word, param=None)
        begin = time.monotonic()
        answer = self.ask("POST", TEXT, b'{"prompt": [1' + b',"a"' * 1_000_000 + b"]}")
        self.refuse(answer, 400, "context", param="prompt", code="context_length_exceeded")
        self.assertLess(time.monotonic() - begin, 8 * PATIENCE)

    def test_a_body_of_many_fields_is_not_slow(self):
        body = json.dumps(fields(TEXT, **{f"field{i}": i for i in range(40_000)}))
        begin = time.monotonic()
        answer = self.ask("POST", TEXT, body)
        self.assertLess(time.monotonic() - begin, 0.5 * PATIENCE)
        self.refuse(answer, 400, "field", param=ANY)

    def test_fields_that_would_change_the_answer_and_are_not_supported(self):
        for name, value in {"functions": [{}], "audio": {}, "modalities": ["audio"], "prediction": {}, "web_search_options": {}}.items():
            self.refuse_fields(CHAT, {name: value}, name, "not supported", param=name)
        for more, param in (({"best_of": 2}, "best_of"), ({"suffix": "a", "echo": True}, "echo")):
            self.refuse_fields(TEXT, more, "not supported", param=param)
        self.refuse_fields(CHAT, {"top_logprobs": 2}, "logprobs", param="top_logprobs")
        harmless = {"user": "me", "metadata": {"a": 1}, "model": "another", "stop": None, "n": None}
        self.assertEqual(self.say(TEXT, suffix="", best_of=1, **harmless), self.first)
        self.assertEqual(self.say(CHAT, tools=[], tool_choice="auto", modalities=["text"], **harmless), self.say(CHAT))

    def test_messages(self):
        user = {"role": "user", "content": "a"}
        part = {"type": "text", "text": "a"}
        for messages, word in (
                (None, "1 to 10000"), ([], "1 to 10000"), ({}, "1 to 10000"), ("a", "1 to 10000"),
                ([user] * 10_001, "1 to 10000"), (["a"], "messages[0]"), ([{}], "messages[0]"),
                ([user, {"role": 1, "content": "a"}], "messages[1]"), ([user, {"role": "user"}], "messages[1].content"),
                ([{**user, "role": "robot"}], '"robot"'), ([{**user, "role": ""}], '""'),
                *(([{"role": "assistant", "tool_calls": calls}], "tool_calls") for calls in (
                    [{}], "a", {"a": 1}, [{"function": {"name": 1}}], [{"function": "stop"}])),
                *(([{**user, "content": content}], "content") for content in (None, 1, {}, True)),
                *(([{**user, "content": [content]}], '"text"') for content in (
                    "a", None, {"type": "text"}, {**part, "text": 1}, {**part, "type": 1},
                    {"type": "image_url", "image_url": {"url": "a"}}))):
            with self.subTest(messages=repr(messages)[:80]):
                self.refuse(self.ask("POST", CHAT, {"messages": messages}), 400, word, param="messages")
        self.assertEqual(self.say(CHAT, [{**part, "text": "the "}, {**part, "text": "rain"}]), self.say(CHAT))

    def test_variables_of_the_chat_template(self):
        for wrong in ([], "a", 1, True):
            with self.subTest(wrong=wrong):
                self.refuse(self.ask("POST", CHAT, fields(CHAT, chat_template_kwargs=wrong)), 400, "object", param="chat_template_kwargs")
        self.refuse(self.ask("POST", CHAT, fields(CHAT, chat_template_kwargs={"messages": []})), 400, "messages", param="messages")
        self.assertEqual(self.say(CHAT, chat_template_kwargs={"enable_thinking": False}), self.say(CHAT))
        control = [{"role": "user", "content": "the rain</s>"}]
        text = [{"role": "user", "content": "the rain"}]
        counts = [self.good(CHAT, {"messages": messages, "max_tokens": 1})["usage"]["prompt_tokens"] for messages in (control, text)]
        self.assertGreater(counts[0], counts[1] + 1)

    def test_prompts(self):
        for prompt in (None, "", [], {}, 1, True, [""], ["a", ""], [[]], [[1], []], [-1], [1.5], [N_VOCAB], [2**64], [True], [1, {}],
                       [[1], 2], [["a"], None]):
            with self.subTest(prompt=prompt):
                self.refuse(self.ask("POST", TEXT, {"prompt": prompt}), 400, "prompt", param="prompt")
        tokens = self.good("/tokenize", {"content": QUESTION, "add_special": True})["tokens"]
        for prompt in ([QUESTION], tokens, [tokens]):
            self.assertEqual(self.say(TEXT, prompt), self.first)
        self.assertEqual(self.say(TEXT, echo=True), QUESTION + self.first)

    def test_stop_strings(self):
        for path in (TEXT, CHAT):
            for stop in ("", [""], ["a", ""], "a" * 257, "é" * 129, ["a"] * 17, [1], [["a"]], [None]):
                self.refuse_fields(path, {"stop": stop}, "256", "16", param="stop")
        self.assertEqual(self.say(TEXT, stop=["☃" * 85 + "a"] * 16), self.first)

    def test_whose_sequence_is_continued(self):
        def cached(question, **more):
            answer = self.good(TEXT, fields(TEXT, question, max_tokens=4, **more))
            return said(answer), answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["usage"]["prompt_tokens"]
        question = "the rain in Spain stays mainly in the plain"
        for more in ({"user": "a"}, {"user": "b"}, {"prompt_cache_key": "a"}, {"cache_salt": "a"}, {"user": "a", "cache_salt": "a"}):
            with self.subTest(more):
                first, n, n_prompt = cached(question, **more)
                self.assertEqual(n, 0, "it continues from another's sequence")
                self.assertEqual(cached(question, **more), (first, n_prompt - 1, n_prompt))
        for name in ("user", "prompt_cache_key", "cache_salt"):
            self.refuse_fields(TEXT, {name: 1}, name, param=name)

    def test_logit_bias(self):
        for biases in ({"0": 100.1}, {"0": -101}, {"-1": 0}, {str(N_VOCAB): 0}, {"a": 0}, {"": 0}, {" 1": 0}, {"1e2": 0},
                       {"1": "a"}, {"1": None}, {"1": True}, {str(2**64): 1}, {str(i): 0 for i in range(1025)}):
            self.refuse_fields(TEXT, {"logit_bias": biases}, N_VOCAB, param="logit_bias")
        [token] = self.good("/tokenize", {"content": " the"})["tokens"]
        self.assertEqual(self.say(TEXT, logit_bias={str(token): 100}), " the" * 8)
        for bias, test in ((0, self.assertIn), (-100, self.assertNotIn)):
            answer = self.good(TEXT, fields(TEXT, logit_bias={str(token): bias}, logprobs=0))
            test(" the", answer["choices"][0]["logprobs"]["tokens"])

    def test_grammars_that_are_broken_or_would_take_for_ever(self):
        for path in (TEXT, CHAT):
            for grammar, word in (
                    ('root ::= "a', "not closed"), ('foo ::= "a"', '"root"'), ("root ::= bar", '"bar"'),
                    ('root ::= root "a"', "never end"), ("\0", "UTF-8"), ("root ::= [z-a]", "range"),
                    ("a" * 65_537, "65536"), ('root ::= "a"{1000000}', "256"),
                    ("root ::= ((a{200}){200}){200}\na ::= [ab]", "4096"), ("root ::= " + "(" * 20_000, "32 deep"),
                    ("root ::= " + '"a"? ' * 3000, "too many ways"), ('root ::= ("a"|"aa"|"aaa")*', "too many ways"),
                    ('root ::= ("a"? "a"? "a"?)* "b"', "too many ways")):
                begin = time.monotonic()
                self.refuse_fields(path, {"grammar": grammar}, word)
                self.assertLess(time.monotonic() - begin, SOON)

    def test_a_grammar_that_leads_nowhere(self):
        for path in (TEXT, CHAT):
            body = fields(path, grammar=r'root ::= "a" [\uD800-\uDFFF]')  # surrogates are not characters
            self.refuse(self.ask("POST", path, body), 400, "the text cannot continue", param="grammar")
            error = self.stream(path, body)[-1]["error"]
            self.assertEqual((error["param"], error["type"]), ("grammar", "invalid_request_error"))

    def test_schemas_that_are_refused(self):
        def schema(of, **more):
            return {"type": "json_schema", "json_schema": {"schema": of, **more}}

        for asked, word in (
                ({}, "json_object"), ({"type": "xml"}, "json_object"), ({"type": "json_schema"}, "json_schema"),
                ({"type": "json_schema", "json_schema": {}}, "schema"), (schema({}, strict=1), "strict"),
                (schema({"type": "foo"}), "foo"), (schema({"$ref": "#/none"}), "/none"), (schema(False), "false"),
                (schema({"not": {}}, strict=True), '"not"'), (schema([1]), "an object or a boolean"),
                (schema({"type": "string", "pattern": "a("}, strict=True), "unclosed group"),
                (schema({"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 0}]}), "oneOf"),
                ({"type": "json_object", "schema": {"type": "foo"}}, "foo")):
            for path in (TEXT, CHAT):
                self.refuse_fields(path, {"response_format": asked}, word, param="response_format")
        both = {"response_format": {"type": "json_object"}, "grammar": 'root ::= "a"'}
        self.refuse_fields(TEXT, both, "exclude each other", param="grammar")
        for name, value, word in (
                ("guided_json", {"not": {}}, '"not"'), ("guided_regex", "a(", "a("), ("guided_regex", 1, "string"),
                ("guided_choice", [], "array"), ("guided_choice", ["a", 1], "array"), ("guided_grammar", "rule: x", "start"),
                ("grammar", "%llguidance {}\nrule: x", "start"), ("structured_outputs", {"regex": "a", "json": {}}, "one of"),
                ("structured_outputs", {"xml": 1}, "one of"), ("structured_outputs", [], "one of"),
                ("json_schema", "no JSON", "JSON")):
            self.refuse_fields(TEXT, {name: value}, word, param=name)

    def test_keywords_that_are_ignored_are_named(self):
        schema = {"type": "object", "properties": {"n": {"type": "integer", "not": {"const": 1}},
                                                   "s": {"type": "string", "format": "日\r\nX-Other: 1"}}}
        asked = {"type": "json_schema", "json_schema": {"schema": schema}}
        status, headers, answer = self.ask("POST", TEXT, fields(TEXT, response_format=asked, max_tokens=100))
        self.assertEqual(status, 200, answer)
        self.assertEqual(headers["X-Cake-Not-Enforced"], "format ???  X-Other: 1, not")
        self.assertNotIn("X-Other", headers)
        _, headers, _ = self.ask("POST", TEXT, fields(TEXT, json_schema={"type": "null"}, max_tokens=10))
        self.assertNotIn("X-Cake-Not-Enforced", headers)

    def test_other_ways_to_constrain_an_answer(self):
        for more, allowed in (
                ({"json_schema": {"enum": [12, 13]}}, {"12", "13"}),
                ({"response_format": {"type": "json_object", "schema": {"const": "x"}}}, {'"x"'}),
                ({"guided_json": '{"const": null}'}, {"null"}), ({"guided_json": {"const": True}}, {"true"}),
                ({"guided_regex": "x{3}"}, {"xxx"}), ({"guided_choice": ["yes", 'no "way"']}, {"yes", 'no "way"'}),
                ({"guided_grammar": 'start: "a" | "b"'}, {"a", "b"}), ({"grammar": '%llguidance {}\nstart: "c"'}, {"c"}),
                ({"structured_outputs": {"choice": ["é"]}}, {"é"}), ({"structured_outputs": {"regex": "日|本"}}, {"日", "本"}),
                ({"structured_outputs": {"json": {"const": 7}, "regex": None}}, {"7"}),
                ({"structured_outputs": {"grammar": 'start: "g"'}}, {"g"})):
            with self.subTest(more):
                self.assertIn(self.say(TEXT, max_tokens=60, temperature=1, **more), allowed)
        self.assertTrue(self.say(TEXT, structured_outputs={"json_object": True}, max_tokens=30).startswith("{"))

    def test_samplers_of_llama_cpp(self):
        off = {"repeat_penalty": 1, "typical_p": 1, "mirostat": 0, "xtc_probability": 0, "dry_multiplier": 0, "top_n_sigma": -1,
               "dynatemp_range": 0, "repetition_penalty": 1.0, "min_keep": 0, "top_k": -1}
        for path in (TEXT, CHAT):
            self.assertEqual(self.say(path, **off), self.say(path))
        plain = self.say(TEXT, temperature=0, max_tokens=60, ignore_eos=True)
        for more in ({"repeat_penalty": 1.8, "repeat_last_n": -1}, {"dry_multiplier": 5, "dry_allowed_length": 1},
                     {"frequency_penalty": 2}):
            self.assertNotEqual(self.say(TEXT, temperature=0, max_tokens=60, ignore_eos=True, **more), plain, more)
        hot = {"temperature": 50, "max_tokens": 40, "ignore_eos": True, "top_p": 1, "min_p": 0, "top_k": 0, "seed": 5}
        # Each of these leaves only the most likely token.
        for more in ({"top_n_sigma": 1e-6}, {"samplers": ["top_k", "temperature"], "top_k": 1}, {"samplers": "kt", "top_k": 1}):
            self.assertEqual(self.say(TEXT, **{**hot, **more}), self.say(TEXT, **{**hot, "temperature": 0}), more)
        # Without the step that reads it, a number has no effect.
        self.assertEqual(self.say(TEXT, **{**hot, "samplers": ["temperature"], "top_k": 1}),
                         self.say(TEXT, **{**hot, "samplers": ["temperature"]}))
        for mirostat in (1, 2):
            self.assertEqual(self.say(TEXT, **hot, mirostat=mirostat), self.say(TEXT, **hot, mirostat=mirostat))
        for name, value, word in (
                ("mirostat", 3, "mirostat"), ("repeat_penalty", 0, "repeat_penalty"), ("samplers", ["none"], "top_n_sigma"),
                ("samplers", "z", "samplers"), ("samplers", 1, "samplers"), ("dry_sequence_breakers", [""], "strings"),
                ("dry_sequence_breakers", "a", "array"), ("min_keep", -1, "min_keep"), ("top_k", -2, "top_k")):
            self.refuse_fields(TEXT, {name: value}, word, param=name)

    def test_an_answer_keeps_to_its_schema(self):
        schema = {"type": "object", "required": ["n", "of"], "additionalProperties": False,
                  "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 999}, "of": {"enum": ["é", "日"]}}}
        asked = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
        for path in (TEXT, CHAT):
            for temperature in (0, 2):
                body = fields(path, response_format=asked, max_tokens=200, temperature=temperature, seed=1)
                for text in (said(self.good(path, body)), told(self.stream(path, body))):
                    answer = json.loads(text)
                    self.assertIsInstance(answer["n"], int)
                    self.assertIn(answer["of"], ("é", "日"))
            self.assertTrue(self.say(path, "a", response_format={"type": "json_object"}, max_tokens=200).startswith("{"))

    def test_a_prompt_that_is_longer_than_the_context(self):
        long = "a " * 5000
        n = len(self.good("/tokenize", {"content": long, "add_special": True})["tokens"])
        self.refuse(self.ask("POST", TEXT, fields(TEXT, long)), 400, f"{n} tokens", TRAINED, param=ANY, code=ANY)
        self.refuse(self.ask("POST", CHAT, fields(CHAT, long)), 400, "tokens", TRAINED, param=ANY, code=ANY)

    def test_prompt_and_answer_fit_into_the_context(self):
        for n in (TRAINED - 1, TRAINED - 5):
            usage = self.good(TEXT, fields(TEXT, [1] * n, max_tokens=9, ignore_eos=True))["usage"]
            self.assertEqual((usage["prompt_tokens"], usage["total_tokens"]), (n, TRAINED))

    def test_budgets_and_policies(self):
        for budget, *words in ((5, "5 tokens", "32 tokens", "bytes"), (2**31, 2**31), (5000, 5000 * N_LAYER * TOKEN_BYTES)):
            for path in (TEXT, CHAT):
                self.refuse_fields(path, {"kv_budget": budget}, *words)
        self.refuse_fields(TEXT, {"policy": "best"}, '"best"', "pyramidkv", param="policy")
        self.refuse_fields(TEXT, {"policy": "best:uniform"}, '"best"', param="policy")
        self.refuse_fields(TEXT, {"policy": "full", "kv_budget": 64}, "takes no budget", param="policy")
        self.refuse_fields(TEXT, {"policy": "a" * 257}, "256", param="policy")
        for policy in ("full", "snapkv", "streaming-llm", "knorm:preference"):
            self.good(TEXT, fields(TEXT, DOCUMENT[:2000], policy=policy))

    def test_what_does_not_fit_names_its_field(self):
        for name, value in (("kv_budget", 5), ("kv_budget", 5000), ("grammar", "root ::= bar"), ("prompt", "a " * 5000)):
            with self.subTest(name=name, value=repr(value)[:20]):
                self.assertEqual(self.ask("POST", TEXT, fields(TEXT, **{name: value}))[2]["error"]["param"], name)


class SlowClients(Served):
    def test_one_that_stalls_keeps_nobody_waiting(self):
        whole = request("POST", TEXT, body=fields(TEXT))
        for n_sent in (1, 20, whole.index(b"{"), len(whole) - 1):
            with self.subTest(n_sent=n_sent), Wire(self.server) as wire:
                for i in range(n_sent):
                    wire.send(whole[i:i + 1])
                self.assertEqual(self.answer_now(), self.first)
                self.assertEqual(said(wire.send(whole[n_sent:]).answer()[2]), self.first)

    def test_a_crowd_that_stalls_keeps_nobody_waiting(self):
        for n in (8, 16, 40, 120, 300):  # each is more than the server's number of threads once was
            with self.subTest(n=n), contextlib.ExitStack() as crowd:
                for i, wire in enumerate([crowd.enter_context(Wire(self.server)) for _ in range(n)]):
                    wire.send(b"GET /hea" if i % 2 else request("POST", TEXT, "Content-Length: 100") + b"{")
                wire = crowd.enter_context(Wire(self.server, SOON))
                self.assertEqual(said(wire.send(request("POST", TEXT, body=fields(TEXT))).answer()[2]), self.first)

    def test_bodies_of_other_methods_take_nobody_s_place(self):
        with contextlib.ExitStack() as crowd:
            for method in ("PUT", "GET", "DELETE"):
                for _ in range(100):
                    crowd.enter_context(Wire(self.server)).send(request(method, TEXT, "Content-Length: 1000") + b"{")
            self.assertEqual(self.answer_now(), self.first)
        self.assert_error(self.ask("GET", "/health", body="{}"), 400, "POST")

    def test_long_answers_keep_nobody_waiting(self):
        wires = [Wire(self.server) for _ in range(PARALLEL)]
        for wire in wires:
            self.addCleanup(wire.close)
            wire.send(request("POST", TEXT, body=fields(TEXT, stream=True, max_tokens=4000, ignore_eos=True)))
        with Wire(self.server, SOON) as wire:
            self.assertEqual(wire.send(request("GET", "/health")).answer()[0], 200)


class Leaving(Served):
    """Requests end when their client disconnects. The answers requested here would take many seconds."""

    FLAGS = ("-c", 40_000, "--parallel", 2)
    LONG = {"max_tokens": 39_000, "ignore_eos": True}

    def there_are(self, n, state):
        return until(lambda: self.number(f"cake_requests_{state}") == n)

    def leave(self, path, body, state):
        with Wire(self.server) as wire:
            wire.send(request("POST", path, body=body))
            self.assertTrue(self.there_are(1, state))
        self.assertTrue(self.there_are(0, state))
        self.assertEqual(self.answer_now(), self.first)

    def test_while_it_generates(self):
        for path in (TEXT, CHAT):
            for n in (1, 2):
                for stream in (True, False):
                    with self.subTest(path=path, n=n, stream=stream):
                        self.leave(path, fields(path, stream=stream, n=n, **self.LONG), "generating")

    def test_while_the_prompt_is_read(self):
        for path in (TEXT, CHAT):
            for stream in (True, False):
                with self.subTest(path=path, stream=stream):
                    self.leave(path, fields(path, WORDS * 30, stream=stream, cache_prompt=False), "reading")

    def test_of_an_old_client(self):
        """HTTP/1.0 has no interim responses, with which others are told from those that only listen."""
        with Wire(self.server) as wire:
            wire.send(request("POST", TEXT, body=fields(TEXT, **self.LONG)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            self.assertTrue(self.there_are(1, "generating"))
        self.assertTrue(self.there_are(0, "generating"))

    def test_only_the_half_that_sends(self):
        """A client that has ended its half of the connection still gets its answer."""
        more = {"max_tokens": 500, "ignore_eos": True}
        whole = self.say(TEXT, **more)
        for stream in (False, True):
            with self.subTest(stream=stream), Wire(self.server) as wire:
                wire.send(request("POST", TEXT, "Connection: close", body=fields(TEXT, stream=stream, **more)))
                self.assertTrue(self.there_are(1, "generating"))
                wire.socket.shutdown(socket.SHUT_WR)
                if stream:
                    lines = [line for line in wire.file.read().replace(b"\r\n", b"\n").split(b"\n") if line.startswith(b"data: {")]
                    self.assertEqual(told([json.loads(line[6:]) for line in lines]), whole)
                else:
                    status, _, answer = wire.answer()
                    self.assertEqual((status, said(answer)), (200, whole))

    def test_while_it_waits(self):
        with Wire(self.server) as one, Wire(self.server) as other:
            for wire in (one, other):
                wire.send(request("POST", TEXT, body=fields(TEXT, stream=True, **self.LONG)))
            self.assertTrue(self.there_are(2, "generating"))
            for stream in (True, False):
                with Wire(self.server) as wire:
                    wire.send(request("POST", TEXT, body=fields(TEXT, stream=stream)))
                    self.assertTrue(self.there_are(1, "waiting"))
                self.assertTrue(self.there_are(0, "waiting"))
            self.assertTrue(self.there_are(2, "generating"))
        self.assertTrue(self.there_are(0, "generating"))

    def test_others_go_on(self):
        with concurrent.futures.ThreadPoolExecutor(1) as pool, Wire(self.server) as wire:
            wire.send(request("POST", TEXT, body=fields(TEXT, stream=True, **self.LONG)))
            self.assertTrue(self.there_are(1, "generating"))
            ours = pool.submit(self.good, TEXT, fields(TEXT, max_tokens=2000, ignore_eos=True))
            self.assertTrue(self.there_are(2, "generating"))
            wire.close()
            self.assertEqual(ours.result()["usage"]["completion_tokens"], 2000)


class Streams(Served):
    def test_they_add_up_to_the_whole_answer(self):
        for path in (TEXT, CHAT):
            for more in ({"max_tokens": 40}, {"max_tokens": 1}, {"max_tokens": 0}, {"seed": 3, "temperature": 1.5}):
                with self.subTest(path=path, more=more):
                    body = fields(path, **more)
                    whole, chunks = self.good(path, body), self.stream(path, body)
                    self.assertEqual(told(chunks), said(whole))
                    *before, last = reasons(chunks)
                    self.assertEqual(last, whole["choices"][0]["finish_reason"])
                    self.assertEqual([reason for reason in before if reason is not None], [])

    def test_the_shape_of_chunks(self):
        for path, kind, kind_of_chunks in ((TEXT, "text_completion", "text_completion"),
                                           (CHAT, "chat.completion", "chat.completion.chunk")):
            chunks, whole = self.stream(path, fields(path, max_tokens=30)), self.good(path, fields(path))
            self.assertEqual((whole["object"], whole["model"]), (kind, MODEL))
            self.assertLess(abs(whole["created"] - time.time()), 60)
            self.assertNotEqual(whole["id"], chunks[0]["id"])
            self.assertEqual({(c["id"], c["object"], c["model"], c["created"]) for c in chunks},
                             {(chunks[0]["id"], kind_of_chunks, MODEL, chunks[0]["created"])})
            self.assertTrue(all("usage" not in c and len(c["choices"]) == 1 for c in chunks))
            self.assertGreater(len(chunks), 10, "tokens are sent as they come")

    def test_the_role_comes_first(self):
        for n in (1, 3):
            chunks = self.stream(CHAT, fields(CHAT, n=n))
            self.assertEqual([c["choices"] for c in chunks[:n]],
                             [[{"index": i, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
                                "finish_reason": None}] for i in range(n)])
            self.assertTrue(all("role" not in c["choices"][0]["delta"] for c in chunks[n:]))

    def test_usage_comes_last_where_it_is_asked_for(self):
        for path in (TEXT, CHAT):
            body = fields(path, n=2)
            *chunks, last = self.stream(path, {**body, "stream_options": {"include_usage": True}})
            usage = self.good(path, body)["usage"]
            self.assertEqual((last["choices"], last["usage"]), ([], usage))
            self.assertEqual((usage["completion_tokens"], usage["total_tokens"]), (16, usage["prompt_tokens"] + 16))
            without = self.stream(path, {**body, "stream_options": {"include_usage": False}})
            self.assertEqual({chunk["usage"] for chunk in chunks}, {None})
            self.assertTrue(all("usage" not in chunk for chunk in without))

    def test_the_reason_of_the_end(self):
        for path in (TEXT, CHAT):
            for more, reason, n in (({}, "length", 8), ({"grammar": 'root ::= "b"'}, "stop", 1), ({"stop": "☃"}, "length", 8)):
                with self.subTest(path=path, more=more):
                    whole = self.good(path, fields(path, **more))
                    self.assertEqual((whole["choices"][0]["finish_reason"], whole["usage"]["completion_tokens"]), (reason, n))
                    self.assertEqual(reasons(self.stream(path, fields(path, **more)))[-1], reason)

    def test_no_character_is_ever_cut(self):
        for path in (TEXT, CHAT):
            chunks = self.stream(path, fields(path, grammar=MULTI_BYTE, max_tokens=60))
            self.assertEqual([told([c]) for c in chunks if told([c])], ["日", "本", "語", "🍰", " ", "é", " ", "ü", "☃"])
            self.assertEqual(self.say(path, grammar=MULTI_BYTE, max_tokens=60), "日本語🍰 é ü☃")
            for n in range(1, 14):  # an answer that ends within a character must not contain any of its bytes
                text = told(self.stream(path, fields(path, grammar=MULTI_BYTE, max_tokens=n)))
                self.assertEqual(text, self.say(path, grammar=MULTI_BYTE, max_tokens=n))
                self.assertTrue("日本語🍰".startswith(text.rstrip("\ufffd")), text)

    def test_stop_strings_across_the_borders_of_tokens(self):
        whole = self.good(TEXT, fields(TEXT, max_tokens=30, logprobs=0))["choices"][0]
        text, tokens = whole["text"], whole["logprobs"]["tokens"]
        self.assertEqual("".join(tokens), text)
        stops, border = set(), 0
        for token in tokens[:-1]:
            border += len(token)
            stops.add(text[border - 1:border + 2])
        self.assertGreater(len(stops), 10)
        for stop in stops:
            for list_of_them in (stop, ["☃", stop]):
                with self.subTest(stop=list_of_them):
                    body = fields(TEXT, max_tokens=30, stop=list_of_them)
                    whole, chunks = self.good(TEXT, body), self.stream(TEXT, body)
                    expected = text[:text.index(stop)]
                    self.assertEqual((said(whole), whole["choices"][0]["finish_reason"]), (expected, "stop"))
                    self.assertEqual((told(chunks), reasons(chunks)[-1]), (expected, "stop"))

    def test_the_first_of_several_stop_strings_counts(self):
        text = self.say(TEXT, max_tokens=20)
        stops = [text[12:16], text[5:9]]
        body, expected = fields(TEXT, max_tokens=20, stop=stops), text[:text.index(stops[1])]
        self.assertEqual((said(self.good(TEXT, body)), told(self.stream(TEXT, body))), (expected, expected))

    def test_what_only_begins_a_stop_string_is_text(self):
        text = self.say(TEXT, max_tokens=20)
        for n in range(1, 6):
            chunks = self.stream(TEXT, fields(TEXT, max_tokens=20, stop=[text[-n:] + "☃", "日" + text]))
            self.assertEqual((told(chunks), reasons(chunks)[-1]), (text, "length"))
        body = fields(TEXT, grammar=MULTI_BYTE, max_tokens=60, stop="語🍰")
        self.assertEqual((told(self.stream(TEXT, body)), said(self.good(TEXT, body))), ("日本", "日本"))

    def test_several_answers_have_their_numbers(self):
        for path in (TEXT, CHAT):
            body = fields(path, n=3, temperature=1.5, seed=5, max_tokens=20)
            whole, chunks = self.good(path, body), self.stream(path, body)
            self.assertEqual([choice["index"] for choice in whole["choices"]], [0, 1, 2])
            texts = [said(whole, i) for i in range(3)]
            self.assertEqual(len(set(texts)), 3)
            self.assertEqual([told(chunks, i) for i in range(3)], texts)
            self.assertEqual([sum(reason is not None for reason in reasons(chunks, i)) for i in range(3)], [1, 1, 1])
            self.assertEqual(self.say(path, n=1, temperature=1.5, seed=5, max_tokens=20), texts[0])

    def test_many_at_once_answer_as_each_alone(self):
        bodies = [fields(TEXT, question, max_tokens=30) for question in ("a", "the rain", "in spain", "and so", "behold", "I")]
        alone = [said(self.good(TEXT, body)) for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            self.assertEqual([told(chunks) for chunks in pool.map(lambda body: self.stream(TEXT, body), bodies)], alone)


class Probabilities(Served):
    def test_of_a_chat(self):
        body = fields(CHAT, logprobs=True, top_logprobs=20, max_tokens=12)
        answer = self.good(CHAT, body)
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 12)
        for entry in content:
            likeliest = entry["top_logprobs"]
            self.assertEqual(len({bytes(e["bytes"]) for e in likeliest}), 20)
            self.assertTrue(all(bytes(e["bytes"]).decode(errors="replace") == e["token"] for e in likeliest))
            logprobs = [e["logprob"] for e in likeliest]
            self.assertEqual(logprobs, sorted(logprobs, reverse=True))
            self.assertLessEqual(math.fsum(map(math.exp, logprobs)), 1 + 1e-5)
            self.assertEqual(likeliest[0], {name: entry[name] for name in ("token", "logprob", "bytes")}, "temperature 0")
        self.assertEqual(b"".join(bytes(e["bytes"]) for e in content).decode(), said(answer))
        streamed = [c["logprobs"]["content"] for c in choices_of(self.stream(CHAT, body)) if c["logprobs"]]
        self.assertEqual([entry for entries in streamed for entry in entries], content)

    def test_of_a_text(self):
        body = fields(TEXT, logprobs=5, max_tokens=12)
        choice = self.good(TEXT, body)["choices"][0]
        logprobs = choice["logprobs"]
        names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
        for token, logprob, likeliest, offset in zip(*(logprobs[name] for name in names), strict=True):
            self.assertEqual(len(likeliest), 5)
            self.assertEqual((likeliest[token], max(likeliest.values())), (logprob, logprob), "temperature 0")
            self.assertLessEqual(math.fsum(map(math.exp, likeliest.values())), 1 + 1e-5)
            self.assertTrue(choice["text"].startswith(token, offset))
        self.assertEqual("".join(logprobs["tokens"]), choice["text"])
        streamed = [c["logprobs"] for c in choices_of(self.stream(TEXT, body)) if c["logprobs"]]
        for name in names:
            self.assertEqual([value for one in streamed for value in one[name]], logprobs[name])

    def test_of_characters_of_many_bytes(self):
        answer = self.good(CHAT, fields(CHAT, logprobs=True, grammar=MULTI_BYTE, max_tokens=60))
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual(b"".join(bytes(e["bytes"]) for e in content).decode(), said(answer))

    def test_parts_of_a_character_stay_apart(self):
        tokens = self.good("/tokenize", {"content": "🍰"})["tokens"]  # one token per byte
        body = fields(TEXT, logprobs=3, max_tokens=8, logit_bias={str(token): 100 for token in tokens})
        logprobs = self.good(TEXT, body)["choices"][0]["logprobs"]
        names = {rf"bytes:\x{byte:02x}" for byte in "🍰".encode()}
        self.assertLessEqual(set(logprobs["tokens"]), names)
        for token, logprob, likeliest in zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"]):
            self.assertEqual(likeliest[token], logprob)
            self.assertGreaterEqual(len(likeliest), 3)

    def test_offsets_are_places_in_the_text(self):
        answer = self.good(TEXT, fields(TEXT, logprobs=0, grammar=MULTI_BYTE, max_tokens=60))
        offsets, text = answer["choices"][0]["logprobs"]["text_offset"], said(answer)
        # The model has one token per byte for these characters.
        self.assertEqual([offsets[i] for i in (0, 3, 6, 9, 13)], [text.index(c) for c in "日本語🍰 "])

    def test_offsets_count_what_waits_for_a_stop_string(self):
        grammar = 'root ::= "a" "a" "b" "a" "a" "b"'
        plain = self.good(TEXT, fields(TEXT, logprobs=0, grammar=grammar))["choices"][0]
        held = self.good(TEXT, fields(TEXT, logprobs=0, grammar=grammar, stop="aabaaab"))["choices"][0]
        self.assertEqual(held, plain)

    def test_none_is_lost_at_a_stop_string(self):
        for path, name, asked in ((TEXT, "tokens", 0), (CHAT, "content", True)):
            body = fields(path, max_tokens=20, stop=self.say(path, max_tokens=20)[9:14], logprobs=asked)
            whole = self.good(path, body)
            entries = whole["choices"][0]["logprobs"][name]
            self.assertEqual(len(entries), whole["usage"]["completion_tokens"])
            streamed = [c["logprobs"][name] for c in choices_of(self.stream(path, body)) if c["logprobs"]]
            self.assertEqual([entry for some in streamed for entry in some], entries)

    def test_none_where_none_are_asked_for(self):
        for path in (TEXT, CHAT):
            choices = self.good(path, fields(path))["choices"] + choices_of(self.stream(path, fields(path)))
            self.assertEqual({choice["logprobs"] for choice in choices}, {None})
        content = self.good(CHAT, fields(CHAT, logprobs=True))["choices"][0]["logprobs"]["content"]
        self.assertTrue(all(entry["top_logprobs"] == [] for entry in content))


class Draws(Served):
    HOT = {"temperature": 1.5, "max_tokens": 30}

    def test_a_seed_repeats_and_another_differs(self):
        for path in (TEXT, CHAT):
            seeds = (5, 6, 7, -1, -9, 2**32 + 5, 2**63 - 1)
            texts, again = ([self.say(path, seed=seed, **self.HOT) for seed in seeds] for _ in range(2))
            self.assertEqual(texts, again)
            self.assertEqual(len(set(texts)), len(seeds))

    def test_without_a_seed_each_is_another(self):
        for more in ({}, {"seed": None}):
            self.assertGreater(len({self.say(TEXT, **self.HOT, **more) for _ in range(4)}), 1)

    def test_temperature_0_is_the_same_whatever_the_seed(self):
        for path in (TEXT, CHAT):
            self.assertEqual(len({self.say(path, seed=seed, max_tokens=30) for seed in (1, 2, -1, None)}), 1)

    def test_a_choice_of_one_token_is_temperature_0(self):
        for more in ({"top_k": 1}, {"top_p": 0}, {"min_p": 1}):
            self.assertEqual(self.say(TEXT, **self.HOT, **more), self.say(TEXT, max_tokens=30))


class Conversations(Served):
    def ask_on(self, messages, **more):
        """Appends the answer to the messages. Returns the number of prompt tokens, and how many of them were cached."""
        answer = self.good(CHAT, {"messages": messages, "temperature": 0, "max_tokens": 12, **more})
        messages.append({"role": "assistant", "content": said(answer)})
        return answer["usage"]["prompt_tokens"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_the_next_turn_goes_on_from_what_is_in_memory(self):
        messages, n_before = [], 0
        for question in (DOCUMENT[:3000] + "\n\nWhat is the code of the silver falcon?", "And of the otter?", "Why?"):
            messages.append({"role": "user", "content": question})
            n, n_cached = self.ask_on(messages, kv_budget=256)
            self.assertTrue(n_before <= n_cached < n, (n_before, n_cached, n))
            self.assertEqual(n_cached > 0, n_before > 0)
            n_before = n

    def test_only_where_that_is_wanted_and_the_text_is_the_same(self):
        for more, begin in (({"cache_prompt": False}, 0), ({"policy": "snapkv"}, 0), ({"n": 2}, 0), ({}, 1)):
            with self.subTest(more=more, begin=begin):
                messages = [{"role": "user", "content": DOCUMENT[:1000]}]
                self.ask_on(messages)
                messages[0]["content"] = DOCUMENT[begin:1000]
                self.assertEqual(self.ask_on([*messages, {"role": "user", "content": "And?"}], **more)[1], 0)


class Cors(Served):
    FLAGS = ("--cors", "https://page.example")

    def test_pages_of_one_origin_may_use_it(self):
        good, other = {"Origin": "https://page.example"}, {"Origin": "https://evil.example"}
        for method, path, status in (("OPTIONS", CHAT, 204), ("POST", CHAT, 200), ("GET", "/health", 200)):
            with self.subTest(method=method, path=path):
                body = fields(CHAT) if method == "POST" else None
                got, headers, _ = self.ask(method, path, body, good)
                self.assertEqual((got, headers["Access-Control-Allow-Origin"]), (status, "https://page.example"))
                self.assertIn("POST", headers["Access-Control-Allow-Methods"])
                self.refuse(self.ask(method, path, body, other), 403, "other sites")


class Proxy(Served):
    """The clients are told apart by the addresses that a proxy names."""

    FLAGS = ("--trusted-proxy", "127.0.0.1,10.0.0.1")

    def n_cached(self, forwarded, key="none"):
        headers = {"Authorization": f"Bearer {key}", **({"X-Forwarded-For": forwarded} if forwarded else {})}
        answer = self.ask("POST", TEXT, fields(TEXT, "the rain in Spain stays mainly in the plain"), headers)[2]
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def test_clients_do_not_share(self):
        for address in ("203.0.113.7", "203.0.113.8", "2001:db8::1", None):
            self.assertEqual(self.n_cached(address), 0, address)
        self.assertGreater(self.n_cached("203.0.113.7"), 5)
        for same in ("198.51.100.1, 203.0.113.7", "203.0.113.7, 10.0.0.1", "203.0.113.7:4711", "::ffff:203.0.113.7"):
            self.assertGreater(self.n_cached(same), 5, same)
        self.assertGreater(self.n_cached("[2001:DB8:0::1]:4711"), 5)
        self.assertEqual(self.n_cached("203.0.113.7, 198.51.100.1"), 0, "the last address is the client's")
        self.assertEqual(self.n_cached(None, key="203.0.113.7"), 0, "a key is no address")


class Log(unittest.TestCase):
    def test_bodies_where_they_are_asked_for(self):
        with Server("-v", "--api-key", "a-secret-key", headers={"Authorization": "Bearer a-secret-key"}) as server:
            server.ask("POST", TEXT, fields(TEXT, "a question for the log"))
            server.stop()
        self.assertIn("a question for the log", server.errors)
        self.assertIn("text_completion", server.errors)
        self.assertNotIn("a-secret-key", server.errors)

    def test_a_line_for_each_request(self):
        with Server() as server:
            server.ask("POST", TEXT, fields(TEXT, max_tokens=3))
            server.ask("POST", CHAT, {**fields(CHAT, max_tokens=2), "stream": True})
            server.ask("POST", TEXT, {"prompt": 1})
            server.ask("GET", "/none")
            server.stop()
        # A line is written after the last byte of its answer is sent, so the next request's line can come before it.
        lines = "\n".join(server.errors.splitlines()[-4:])
        for line in (r"POST /v1/completions 200 [0-9.]+ s, \d+ tokens read \(0 in memory\), 3 written$",
                     r"POST /v1/chat/completions 200 [0-9.]+ s, \d+ tokens read \(0 in memory\), 2 written$",
                     r"POST /v1/completions 400 [0-9.]+ s: prompt must be ",
                     r"GET /none\S* 40[04] [0-9.]+ s: "):
            self.assertRegex(lines, "(?m)^" + line)

    def test_as_json_and_without_the_key(self):
        with Server("--log-format", "json", "--api-key", "sesame") as server:
            for key in ("sesame", "sesami"):
                server.ask("POST", TEXT, fields(TEXT, max_tokens=3), {"Authorization": f"Bearer {key}"})
            server.stop()
        first, second = sorted(map(json.loads, server.errors.splitlines()[-2:]), key=lambda line: line["status"])
        self.assertEqual((first["method"], first["path"], first["status"], first["completion_tokens"]), ("POST", TEXT, 200, 3))
        self.assertEqual((second["status"], "completion_tokens" in second), (401, False))
        self.assertIn("API key", second["error"])
        self.assertNotIn("sesam", server.errors)

    def test_none(self):
        with Server("--log-format", "none") as server:
            server.ask("POST", TEXT, fields(TEXT, max_tokens=3))
            server.stop()
        self.assertNotIn("POST", server.errors)


class TwoKeys(Served):
    FLAGS = ("--api-key", "one,two")
    HEADERS = {"Authorization": "Bearer one"}

    def test_each_is_as_if_alone(self):
        """The same document with two keys, in turns: answers and cached tokens are those of a client that is alone."""
        def ask(key, messages):
            name, value = ("X-Api-Key", key) if key == "two" else ("Authorization", f"Bearer {key}")
            status, _, answer = self.server.ask("POST", CHAT, {"messages": messages, "temperature": 0, "max_tokens": 8, "kv_budget": 256},
                                                {name: value})
            self.assertEqual(status, 200, answer)
            return answer
        turns = {}
        for key in ("one", "two"):
            messages = turns[key] = [{"role": "user", "content": DOCUMENT[:3000]}]
            read = []
            for question in ("Why?", "And then?"):
                answer = ask(key, messages)
                read.append((said(answer), answer["usage"]["prompt_tokens_details"]["cached_tokens"]))
                messages += [{"role": "assistant", "content": said(answer)}, {"role": "user", "content": question}]
            turns[key] = (messages, read)
        self.assertEqual(turns["one"], turns["two"])
        self.assertEqual(turns["two"][1][0][1], 0)
        self.assertGreater(turns["two"][1][1][1], 500)
        self.assertEqual(self.server.ask("POST", TEXT, fields(TEXT), {"X-Api-Key": "three"})[0], 401)


class Keys(Served):
    FLAGS = ("--api-key", "open sesame")
    HEADERS = {"Authorization": "Bearer open sesame"}

    def test_without_the_right_one_nothing_is_answered(self):
        for given in (None, "", "Bearer", "Bearer ", "Bearer open", "Bearer open sesam", "Bearer open sesames",
                      "Bearer OPEN SESAME", "Bearer open sesameopen sesame", "open sesame", "Basic open sesame",
                      "Bearer open sesame, Bearer a", "Bearer \xe9"):
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            for method, path in (("POST", TEXT), ("POST", CHAT), ("POST", "/tokenize"), ("POST", "/detokenize"),
                                 ("GET", "/v1/models"), ("GET", "/slots"), ("GET", "/slots/a"), ("GET", "/metrics"),
                                 ("GET", "/none"), ("GET", "//"), ("GET", "/health/")):
                with self.subTest(given=given, path=path):
                    answer = self.server.ask(method, path, fields(TEXT) if method == "POST" else None, headers)
                    self.refuse(answer, 401, "Authorization: Bearer", code="invalid_api_key")

    def test_the_page_and_the_health_are_open(self):
        paths = ["/"]
        for path in paths:  # the list grows by the paths to which each file refers
            status, headers, content = self.server.ask("GET", path)
            self.assertEqual((status, headers["X-Content-Type-Options"]), (200, "nosniff"), path)
            self.assertIn("default-src 'self'", headers["Content-Security-Policy"])
            for name in re.findall(r'(?:href="|src="|^import .* from ")([^"#]+)"', content.decode(), re.MULTILINE):
                paths += {urllib.parse.urljoin(path, name)} - set(paths)
        self.assertGreater(len(paths), 2)
        self.assertEqual(self.server.ask("GET", "/health")[0], 200)

    def test_a_body_is_not_waited_for_without_it(self):
        with Wire(self.server, SOON) as wire:
            self.refuse(wire.send(request("POST", TEXT, "Content-Length: 1000")).answer(), 401, code="invalid_api_key")

    def test_with_it_the_host_may_have_any_name_but_the_site_no_other(self):
        key = "Authorization: Bearer open sesame"
        for more, status in (([], 200), (["Origin: http://cake.example"], 200), (["Origin: http://evil.example"], 403)):
            with self.subTest(more=more), Wire(self.server) as wire:
                wire.send(request("GET", "/v1/models", key, *more, host="cake.example"))
                self.assertEqual(wire.answer()[0], status)

    def test_one_of_the_environment(self):
        with Server(env={"CAKE_API_KEY": "sesame"}) as server:
            for given, status in (({}, 401), ({"Authorization": "Bearer sesame"}, 200), ({"Authorization": "Bearer sesam"}, 401)):
                self.assertEqual(server.ask("GET", "/v1/models", headers=given)[0], status)


class Queue(Served):
    FLAGS = ("--parallel", 1, "--queue", 1)

    def test_who_finds_it_full_is_told_to_come_again(self):
        with Wire(self.server) as running, Wire(self.server) as waiting:
            running.send(request("POST", TEXT, body=fields(TEXT, max_tokens=4000, ignore_eos=True, stream=True)))
            self.assertTrue(until(lambda: self.number("cake_requests_generating") == 1))
            waiting.send(request("POST", TEXT, body=fields(TEXT)))
            self.assertTrue(until(lambda: self.number("cake_requests_waiting") == 1))
            slots = [slot for slot in self.ask("GET", "/slots")[2]["slots"] if slot["state"] != "idle"]
            self.assertEqual([(slot["state"], slot["queue_position"]) for slot in slots], [("generating", 0), ("queued", 1)])
            for path in (TEXT, CHAT):
                for stream in (False, True):
                    answer = self.ask("POST", path, fields(path, stream=stream))
                    self.assert_error(answer, 503, "try again later", code="overloaded")
                    self.assertTrue(1 <= int(answer[1]["Retry-After"]) <= 60)
            running.socket.shutdown(socket.SHUT_RDWR)
            self.assertEqual(said(waiting.answer()[2]), self.first)

    def test_more_answers_than_sequences(self):
        self.refuse_fields(TEXT, {"n": 2}, "n must be", param="n")


class Memory(Served):
    """Reports of /slots on one sequence, and the memory bound on all sequences together."""

    BUDGET = 128
    FLAGS = ("--kv-budget", BUDGET, "--parallel", 2)

    def slot(self, name):
        """Returns the report on a request slot, which must be consistent in every state."""
        status, _, slot = self.ask("GET", f"/slots/{name}?pieces=1")
        self.assertEqual(status, 200, slot)
        self.assertEqual((slot["n_layer"], slot["policy"]), (N_LAYER, "cake+"))
        self.assertTrue(0 <= slot["cached_tokens"] <= slot["read_tokens"] <= slot["prompt_tokens"])
        self.assertLessEqual(slot["kv"]["bytes_now"], slot["kv"]["bytes_allocated"])
        if slot["state"] != "queued":
            self.assertEqual(len(slot["held"]), len(slot["pieces"]))
            self.assertTrue(all(0 <= held <= N_LAYER for held in slot["held"]))
            self.assertEqual([layer["layer"] for layer in slot["layers"]], list(range(N_LAYER)))
        return slot

    def test_of_a_text_that_is_in_memory(self):
        for prompt, more in ((DOCUMENT[:6000], {"max_tokens": 20}), ("a naïve 🍰", {"grammar": MULTI_BYTE, "max_tokens": 60})):
            answer = self.good(TEXT, fields(TEXT, prompt, **more))
            slot, usage = self.slot(answer["id"]), answer["usage"]
            self.assertEqual((slot["state"], slot["prompt_tokens"]), ("idle", usage["prompt_tokens"]))
            # If the answer was cut off, its last token was not passed through the model, so its text is not in memory.
            whole, text = prompt + said(answer), "".join(slot["pieces"])
            was_cut = answer["choices"][0]["finish_reason"] == "length"
            self.assertEqual(len(slot["held"]), usage["total_tokens"] - was_cut)
            self.assertTrue(whole.startswith(text))
            self.assertEqual(text == whole, not was_cut)

            kept = sum(layer["kept"] for layer in slot["layers"])
            self.assertLessEqual(kept, self.BUDGET * N_LAYER)
            self.assertEqual(slot["kv"]["budget_tokens_per_layer"], self.BUDGET)
            self.assertEqual(slot["kv"]["bytes_now"], kept * TOKEN_BYTES)
            self.assertEqual(slot["kv"]["bytes_full_cache"], len(slot["held"]) * N_LAYER * TOKEN_BYTES)
            self.assertGreaterEqual(sum(slot["held"]), kept, "each head keeps tokens of its own")
            self.assertEqual(set(slot["held"][-30:]), {N_LAYER}, "the window stays")

            without = self.ask("GET", "/slots/" + answer["id"])[2]
            self.assertEqual(without, {name: value for name, value in slot.items() if name != "pieces"})
            # The list does not show the whole id, which would give access to the text.
            listed = [s for s in self.ask("GET", "/slots")[2]["slots"] if answer["id"].startswith(s["id"])]
            shown = {name: value for name, value in without.items() if name != "held"}
            self.assertEqual(listed, [{**shown, "id": answer["id"][:16]}])
            self.refuse(self.ask("GET", "/slots/" + answer["id"][:16]), 404, "memory")

    def test_while_it_is_read_and_answered(self):
        prompt, states, n_read = WORDS * 4, [], 0
        connection = self.server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", CHAT, json.dumps(fields(CHAT, prompt, stream=True, max_tokens=1000, ignore_eos=True)))
        stream = events(connection.getresponse())
        name = next(stream)["id"]
        while states[-1:] != ["idle"]:
            slot = self.slot(name)
            states += [slot["state"]] if states[-1:] != [slot["state"]] else []
            self.assertGreaterEqual(slot["read_tokens"], n_read)
            n_read = slot["read_tokens"]
            if slot["state"] == "reading":
                self.assertIn(prompt, "".join(slot["pieces"]))
        self.assertEqual(states[-3:], ["reading", "generating", "idle"])
        self.assertEqual(reasons(stream)[-1], "length")

    def test_the_bound_holds_for_many_at_once(self):
        bodies = [fields(TEXT, WORDS[i:] + WORDS[:i], max_tokens=20, n=1 + i % 2,
                         **({"kv_budget": 40 + 10 * i} if i % 3 else {})) for i in range(10)]
        bound = self.number("cake_kv_bytes_bound")
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            answers = [pool.submit(self.good, TEXT, body) for body in bodies]
            while not all(answer.done() for answer in answers):
                kv = self.ask("GET", "/slots")[2]["kv"]
                self.assertEqual(kv["bytes_bound"], bound)
                self.assertTrue(kv["bytes_now"] <= kv["bytes_peak"] <= bound, kv)
            self.assertEqual([answer.exception() for answer in answers], [None] * len(bodies))
        self.assertGreater(self.number("cake_kv_bytes_peak"), bound / 2)

    def test_of_what_is_not_in_memory(self):
        for name in ("none", "%00", "%ff%fe", "a" * 1000, ".."):
            self.refuse(self.ask("GET", "/slots/" + name), 404, "memory")


class Metrics(Served):
    def read(self):
        """Returns the samples by name and labels, and the types of the families. Checks Prometheus' text format."""
        status, headers, content = self.ask("GET", "/metrics")
        self.assertEqual((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4"))
        samples, kinds, family = {}, {}, None
        self.assertTrue(content.endswith(b"\n"))
        for line in content.decode().splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                self.assertNotIn(family, kinds)
                kinds[family] = None
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                self.assertEqual((name, kinds[name]), (family, None))
                self.assertIn(kind, ("counter", "gauge", "histogram"))
                kinds[name] = kind
            else:
                self.assertRegex(line, r'\A[a-z_]+(\{([a-z]+="[^"\\]*",?)+\})? [0-9.e+-]+\Z')
                name, labels, value = re.fullmatch(r"([a-z_]+)(\S*) (\S+)", line).groups()
                suffixes = ("_bucket", "_sum", "_count") if kinds[family] == "histogram" else ("",)
                self.assertIn(name, [family + suffix for suffix in suffixes])
                self.assertNotIn((name, labels), samples)
                samples[name, labels] = float(value)
        self.assertTrue(all(name.endswith("_total") for name, kind in kinds.items() if kind == "counter"))
        return samples, kinds

    def test_they_count_what_was_done(self):
        before, _ = self.read()
        usages = [self.good(TEXT, fields(TEXT, DOCUMENT[:2000], kv_budget=64, n=2, max_tokens=9, ignore_eos=True))["usage"],
                  self.good(CHAT, fields(CHAT, max_tokens=1, cache_prompt=False))["usage"]]
        self.assertEqual([self.ask("POST", TEXT, {})[0], self.ask("GET", "/none")[0]], [400, 404])
        after, kinds = self.read()

        def grown(name, labels=""):
            return after["cake_" + name, labels] - before.get(("cake_" + name, labels), 0)

        n_tokens = sum(usage["completion_tokens"] for usage in usages)
        self.assertEqual((n_tokens, grown("generated_tokens_total")), (19, 19))
        self.assertEqual(grown("prompt_tokens_total"), sum(usage["prompt_tokens"] for usage in usages))
        self.assertEqual(grown("cached_tokens_total"), 0)
        self.assertGreaterEqual(grown("evicted_tokens_total"), 2 * N_LAYER * (usages[0]["prompt_tokens"] - 64))
        self.assertEqual(grown("time_to_first_token_seconds_count"), 3)
        self.assertEqual(grown("time_between_tokens_seconds_count"), 16)
        for path, status in ((TEXT, 200), (TEXT, 400), (CHAT, 200), ("other", 404)):
            self.assertEqual(grown("requests_total", f'{{route="{path}",status="{status}"}}'), 1)
        self.assertTrue(all(after["cake_requests_" + state, ""] == 0 for state in ("waiting", "reading", "generating")))
        self.assertEqual([key for key, value in before.items() if kinds.get(key[0]) == "counter" and after[key] < value], [])
        self.assertLessEqual(after["cake_kv_bytes", ""], after["cake_kv_bytes_peak", ""])
        self.assertLessEqual(after["cake_kv_bytes_peak", ""], after["cake_kv_bytes_bound", ""])

    def test_histograms(self):
        samples, kinds = self.read()
        for name in (name for name, kind in kinds.items() if kind == "histogram"):
            counts = {re.fullmatch(r'\{le="(.+)"\}', labels)[1]: value
                      for (sample, labels), value in samples.items() if sample == name + "_bucket"}
            bounds = list(map(float, counts))
            self.assertEqual((bounds[-1], bounds), (math.inf, sorted(bounds)))
            self.assertEqual(list(counts.values()), sorted(counts.values()))
            self.assertEqual(counts["+Inf"], samples[name + "_count", ""])
            self.assertGreater(samples[name + "_count", ""], 0)

    def test_a_first_token_takes_time(self):
        for _ in range(50):
            before = self.number("cake_time_to_first_token_seconds_sum")
            self.say(TEXT, "a", max_tokens=1)
            self.assertGreater(self.number("cake_time_to_first_token_seconds_sum"), before)

    def test_a_path_makes_no_label_of_its_own(self):
        for path in ("/slots/a", "/slots/b", "/v1/models/c", '/d"}', "/%0a"):
            self.ask("GET", path)
        routes = {labels for name, labels in self.read()[0] if name == "cake_requests_total"}
        self.assertTrue(all(re.match(r'\{route="(other|/[a-z0-9/:]*)",', labels) for labels in routes), routes)


class Tokens(Served):
    def test_there_and_back(self):
        for text in ("", "a", " a", "a ", "\n\n\n", "日本語🍰", "e\u0301", "\0", "\r\n", "\u202eabc", "<|im_end|>", "\ufeffa",
                     "\U0010ffff", "\uffff", " " * 100, "a" * 5000, "\t\ta", "👩‍👩‍👧‍👦", DOCUMENT):
            with self.subTest(text=text[:20]):
                answer = self.good("/tokenize", {"content": text, "with_pieces": True})
                self.assertEqual(len(answer["tokens"]), len(answer["pieces"]))
                self.assertEqual("".join(answer["pieces"]), text)
                self.assertEqual(self.good("/detokenize", {"tokens": answer["tokens"]})["content"], text)

    def test_names_of_special_tokens_come_back_too(self):
        for text in ("<s>", "a <s></s> b"):
            with self.subTest(text=text):
                tokens = self.good("/tokenize", {"content": text})["tokens"]
                self.assertEqual(self.good("/detokenize", {"tokens": tokens})["content"], text)

    def test_they_are_those_of_a_prompt(self):
        tokens = self.good("/tokenize", {"content": DOCUMENT[:500], "add_special": True})["tokens"]
        self.assertEqual(self.good(TEXT, fields(TEXT, DOCUMENT[:500]))["usage"]["prompt_tokens"], len(tokens))

    def test_the_first_token_counts_once_where_it_is_written_out(self):
        for add_special, more in ((True, 0), (False, 1)):
            plain, written = (self.good("/tokenize", {"content": text, "add_special": add_special})["tokens"]
                              for text in ("the rain", "<s>the rain"))
            self.assertEqual(len(written), len(plain) + more)
        plain, written = (self.good(TEXT, fields(TEXT, text)) for text in ("the rain", "<s>the rain"))
        self.assertEqual((written["usage"], said(written)), ({**plain["usage"], "prompt_tokens_details": ANY}, said(plain)))

    def test_wrong_ones(self):
        for body in ({}, {"content": 1}, {"content": None}, {"content": ["a"]}):
            self.refuse(self.ask("POST", "/tokenize", body), 400, "content", param="content")
        for name in ("add_special", "with_pieces"):
            self.refuse(self.ask("POST", "/tokenize", {"content": "a", name: 1}), 400, name, param=name)
        for tokens in (None, 1, "a", [-1], [N_VOCAB], [1.0], [True], ["1"], [[1]], {}):
            with self.subTest(tokens=tokens):
                self.refuse(self.ask("POST", "/detokenize", {"tokens": tokens}), 400, N_VOCAB, param="tokens")
        self.assertIn("\ufffd", self.good("/detokenize", {"tokens": list(range(N_VOCAB))})["content"])


class Models(Served):
    def test_the_one_that_there_is(self):
        listed = self.ask("GET", "/v1/models")[2]
        self.assertEqual((listed["object"], [model["id"] for model in listed["data"]]), ("list", [MODEL]))
        self.assertEqual(self.ask("GET", "/v1/models/" + MODEL)[2], listed["data"][0])
        self.assertEqual(listed["data"][0]["object"], "model")
        self.assertEqual(listed["data"][0]["meta"], {"n_ctx": TRAINED, "n_ctx_train": TRAINED, "n_vocab": N_VOCAB,
                                                     "n_layer": N_LAYER, "n_params": ANY})

    def test_another(self):
        for name in ("gpt-4", "a" * 1000, "%22", "..", "%ff"):
            self.refuse(self.ask("GET", "/v1/models/" + name), 404, MODEL, code="model_not_found")


class Endings(unittest.TestCase):
    """Each test starts and ends its own server."""

    LONG = fields(TEXT, max_tokens=1500, ignore_eos=True)

    def start(self, *flags):
        server = Server(*flags)
        for cleanup in (server.process.stderr.close, server.process.stdout.close, server.process.wait, server.process.kill):
            self.addCleanup(cleanup)
        return server

    def begin(self, server, body, n_running=1):
        """Sends a request and returns its connection once the answer is being generated."""
        connection = server.connect()
        self.addCleanup(connection.close)
        connection.request("POST", TEXT, json.dumps(body))
        self.assertTrue(until(lambda: server.metric("cake_requests_generating") == n_running))
        return connection

    def closing(self, server):
        return until(lambda: server.ask("GET", "/health")[0] == 503)

    def test_what_runs_ends_and_nothing_new_begins(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.start("--parallel", 2)
            streamed = self.begin(server, {**self.LONG, "stream": True})
            whole = self.begin(server, self.LONG, 2)
            server.process.send_signal(number)
            self.assertTrue(self.closing(server))
            for path in (TEXT, CHAT):
                status, headers, body = server.ask("POST", path, fields(path))
                self.assertEqual((status, body["error"]["code"]), (503, "overloaded"))
                self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            chunks, answer = list(events(streamed.getresponse())), json.load(whole.getresponse())
            self.assertEqual((reasons(chunks)[-1], answer["usage"]["completion_tokens"]), ("length", 1500))
            self.assertEqual(told(chunks), said(answer))
            streamed.close()
            whole.close()
            self.assertEqual(server.process.wait(SOON), 0)
            with self.assertRaises(ConnectionError):
                server.ask("GET", "/health")

    def test_who_waits_is_answered_too(self):
        server = self.start("--parallel", 1)
        running, waiting = self.begin(server, self.LONG), server.connect()
        self.addCleanup(waiting.close)
        waiting.request("POST", TEXT, json.dumps(fields(TEXT)))
        self.assertTrue(until(lambda: server.metric("cake_requests_waiting") == 1))
        server.process.send_signal(signal.SIGTERM)
        for connection, n in ((running, 1500), (waiting, 8)):
            self.assertEqual(json.load(connection.getresponse())["usage"]["completion_tokens"], n)

    def test_without_grace_or_asked_twice_it_ends_at_once_and_says_so(self):
        long = {**self.LONG, "max_tokens": 4000}
        for flags in (("--grace", 0), ()):
            for attempt in range(4):  # answers race with the shutdown
                with self.subTest(flags=flags, attempt=attempt):
                    server = self.start(*flags)
                    streams = [self.begin(server, {**long, "stream": True}, n) for n in (1, 2, 3)]
                    whole = self.begin(server, long, 4)
                    server.process.send_signal(signal.SIGTERM)
                    if not flags:
                        self.assertTrue(self.closing(server))
                        server.process.send_signal(signal.SIGTERM)
                    for stream in streams:
                        *_, last = events(stream.getresponse())
                        self.assertEqual(last.get("error", {}).get("type"), "overloaded_error", "no error ends the stream")
                    response = whole.getresponse()
                    self.assertEqual((response.status, json.load(response)["error"]["type"]), (503, "overloaded_error"))
                    for connection in (*streams, whole):
                        connection.close()
                    self.assertEqual(server.process.wait(SOON), 0)

    def test_connections_that_do_nothing_do_not_hold_it_up(self):
        for data in (b"", request("GET", "/health"), b"GET /hea", request("POST", TEXT, "Content-Length: 9")):
            with self.subTest(data=data):
                server = self.start()
                with Wire(server) as wire:
                    wire.send(data)
                    self.assertEqual(server.ask("GET", "/health")[0], 200)
                    server.process.send_signal(signal.SIGTERM)
                    self.assertTrue(until(lambda server=server: server.process.poll() == 0), "it still runs")

    def test_a_slow_reader_gets_all_of_its_stream(self):
        server = self.start()
        body = fields(CHAT, max_tokens=2500, ignore_eos=True, stream=True, logprobs=True, top_logprobs=20)
        with Wire(server) as wire:  # the answer is larger than the socket buffers
            wire.send(request("POST", CHAT, "Connection: close", body=body))
            self.assertTrue(until(lambda: server.metric("cake_requests_generating") == 1))
            server.process.send_signal(signal.SIGTERM)
            self.assertTrue(until(lambda: server.metric("cake_requests_generating") == 0, 10 * SOON))
            self.assertIn(b"data: [DONE]", wire.file.read())


class CommandLine(unittest.TestCase):
    def refuse(self, *flags, code, words=(), model=("-m", BUNDLED)):
        with self.subTest(flags=flags):
            result = cake("serve", *model, "-t", 1, "--port", 0, *flags, timeout=SOON)
            assert_refused(self, result, *map(str, words), code=code)

    def test_wrong_use(self):
        for flag, *values in (("--port", -1, 65536, "http"), ("--parallel", 0, -1, 257, "all"), ("--queue", -1, 4097),
                              ("--kv-ratio", 0.5, 2), ("--kv-budget", 0, -5), ("--kv-memory", "much", "0"),
                              ("--ctx-size", -1, 10**9), ("--grace", -1), ("--temp", -1, "nan"), ("--segment", -1),
                              ("--threads", 0)):
            for value in values:
                self.refuse(flag, value, code=2, words=[flag])
        self.refuse("--policy", "best", code=2, words=['"best"', "pyramidkv"])
        self.refuse("--policy", "full", "--kv-memory", "1GiB", code=2, words=["keeps everything"])
        self.refuse("--kv-budget", 64, "--kv-memory", "1MiB", code=2)
        self.refuse("--api-key", code=2, words=["--api-key"])
        self.refuse("text", code=2, words=["text"])
        self.refuse(model=(), code=2, words=["--model"])

    def test_memory_that_is_too_small(self):
        flight, stores = TRAINED * TOKEN_BYTES, PARALLEL * N_LAYER * 64 * TOKEN_BYTES
        self.refuse("--kv-memory", "1KiB", code=1, words=[1024, flight, stores, flight + stores, "--segment"])
        self.refuse("--kv-memory", flight + stores - 1, code=1, words=[flight + stores - 1, flight + stores])
        self.refuse("--kv-memory", 200_000, "-c", 256, "--parallel", 2, code=1, words=[200_000, 256 * TOKEN_BYTES, stores // 2])
        self.refuse("--kv-budget", 5, code=1, words=["5 tokens", "32 tokens"])
        with Server("--kv-memory", flight + stores) as server:
            server.complete(DOCUMENT[:4000])
            self.assertEqual(server.metric("cake_kv_bytes_bound"), flight + stores)

    def test_files_that_are_no_models(self):
        for path, word in (("/none", "No such file"), ("/tmp", "is a folder"), (__file__, "not a GGUF file")):
            self.refuse(model=("-m", path), code=1, words=[path, word])

    def test_a_port_that_another_program_has(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            self.refuse("--port", taken.getsockname()[1], code=1, words=[taken.getsockname()[1], "--port"])

    def test_a_port_that_another_cake_has(self):
        with Server() as server:
            self.refuse("--port", server.port, code=1, words=[server.port, "--port"])

    def test_an_address_that_is_none(self):
        self.refuse("--host", "999.1.1.1", code=1, words=["999.1.1.1"])

    def test_an_address_of_another_machine(self):
        self.refuse("--host", "192.0.2.1", code=1, words=["192.0.2.1", "does not have that address"])

    def test_a_name_that_does_not_resolve(self):
        self.refuse("--host", "nope.invalid", code=1, words=['"nope.invalid" does not resolve'])

    def test_a_template_that_there_is_not(self):
        self.refuse("--chat-template", "nosuch", code=1, words=['"nosuch"'])

    def test_a_key_that_is_empty_would_open_the_server(self):
        self.refuse("--api-key", "", code=2, words=["--api-key"])

    def test_it_says_where_it_is_and_what_memory_it_takes(self):
        for flags, tokens, n_bytes in ((("--kv-budget", 100, "--parallel", 3), "100", "450 KiB"),
                                       (("--parallel", 3), "1,024", "4.50 MiB")):
            with self.subTest(flags=flags):
                process = subprocess.Popen(command("serve", "-m", BUNDLED, "-t", 1, "--port", 0, *flags),
                                           stderr=subprocess.PIPE, text=True, env=environment())
                self.addCleanup(process.communicate)
                self.addCleanup(process.kill)
                self.assertRegex(process.stderr.readline(), r"cake-mini\.gguf at http://127\.0\.0\.1:\d+/\n")
                self.assertIn(f"3 sequences of {tokens} tokens a layer", process.stderr.readline())


if __name__ == "__main__":
    unittest.main()
