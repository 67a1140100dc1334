#!/usr/bin/env python3
"""A short soak test with the bundled model (bench/results-soak is the long one), and tests of problems it has found."""

import contextlib
import json
import pathlib
import random
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import MODELS, SANITIZED  # noqa: E402
from support.server import Server  # noqa: E402
from support.soak import TEXT, Options, soak  # noqa: E402


class Soak(unittest.TestCase):
    def test_a_crowd_of_all_manners_for_a_moment(self):
        # Memory still grows after such a short time, and a sanitizer does not return freed memory at once. A leak in
        # every request would exceed the limit nevertheless.
        figures, failures = soak(Options(seconds=20, n_clients=8, most_tokens=3000, kv_budget=256, n_compared=40,
                                         most_growth=10 if SANITIZED else 0.3))
        for name, figure in figures:
            print(f"{name}: {figure}")
        self.assertEqual([], failures)


class Connections(unittest.TestCase):
    def test_many_that_come_at_once_are_all_answered_at_once(self):
        with Server() as server:
            for _ in range(10):
                with contextlib.ExitStack() as connections:
                    crowd = [connections.enter_context(server.socket()) for _ in range(12)]
                    begin = time.monotonic()
                    for connection in crowd:
                        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    for connection in crowd:
                        self.assertIn(b"200 OK", connection.recv(1000))
                    # The other clients stay connected meanwhile.
                    self.assertLess(time.monotonic() - begin, 1)


class Conversations(unittest.TestCase):
    def test_a_stop_string_does_not_make_the_next_answer_a_matter_of_luck(self):
        words = TEXT.read_text(encoding="utf-8").split()
        with Server("--parallel", 1, "--kv-budget", 64) as server:
            def chat(messages, **fields):
                body = {"messages": messages, "temperature": 0, "max_tokens": 60, **fields}
                return server.ask("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]

            for seed in range(10):
                chance = random.Random(seed)
                messages = [{"role": "user", "content": " ".join(chance.choices(words, k=150))}]
                whole = chat(messages)
                begin = chance.randrange(10, 30)
                stop = whole[begin:begin + 4]
                second = set()
                for _ in range(10):
                    first = chat(messages, stop=stop, cache_prompt=False)
                    self.assertEqual(first, whole[:whole.index(stop)])
                    turns = [*messages, {"role": "assistant", "content": first}, {"role": "user", "content": "And then?"}]
                    second.add(chat(turns))
                self.assertEqual(len(second), 1, second)

    def test_what_was_answered_can_be_sent_back_whatever_bytes_the_model_has_drawn(self):
        with Server(model=MODELS / "q4_0.gguf") as server:
            for byte in (0x00, 0x01, 0x7F, 0x80, 0xFF):
                messages = [{"role": "user", "content": "a"}]
                body = {"messages": messages, "temperature": 0, "max_tokens": 2, "logit_bias": {str(3 + byte): 100}}
                message = server.ask("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]
                messages += [{"role": message["role"], "content": message["content"]}, {"role": "user", "content": "b"}]
                status, _, answer = server.ask("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 1})
                self.assertEqual(status, 200, f"{message['content']!r}: {answer}")


class Schemas(unittest.TestCase):
    def test_a_string_is_a_text_even_where_the_model_likes_loose_bytes(self):
        schema = {"type": "string", "maxLength": 4}
        with Server(model=MODELS / "q4_0.gguf") as server:
            for seed in range(60):
                body = {"prompt": "a", "temperature": 3, "top_k": 0, "top_p": 1, "min_p": 0, "seed": seed, "max_tokens": 100,
                        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
                choice = server.ask("POST", "/v1/completions", body)[2]["choices"][0]
                self.assertEqual(choice["finish_reason"], "stop")
                text = json.loads(choice["text"])
                self.assertLessEqual(len(text), 4, f"seed {seed}: {text!r}")
                self.assertNotIn("\ufffd", text)


if __name__ == "__main__":
    unittest.main()
