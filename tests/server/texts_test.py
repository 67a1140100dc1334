#!/usr/bin/env python3
"""Tests of completions of plain texts: several prompts, log probabilities of the prompt, and llama.cpp's own API."""

import contextlib
import json
import math
import pathlib
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server.served import CHAT, TEXT, Served, Wire, choices_of, fields, request, said, told, until  # noqa: E402
from support.server import events  # noqa: E402

NATIVE = "/completion"
PROMPTS = ["the rain", "in Spain stays", "a house and a dog"]


class SeveralPrompts(Served):
    def test_each_is_answered_as_alone(self):
        alone = [self.say(TEXT, prompt) for prompt in PROMPTS]
        tokens = [self.good("/tokenize", {"content": prompt, "add_special": True})["tokens"] for prompt in PROMPTS]
        for prompts in (PROMPTS, tokens):
            answer = self.good(TEXT, fields(TEXT, prompts))
            self.assertEqual([said(answer, i) for i in range(3)], alone)
            self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1, 2])
            self.assertEqual(answer["usage"]["prompt_tokens"], sum(map(len, tokens)))
            chunks = self.stream(TEXT, fields(TEXT, prompts))
            self.assertEqual([told(chunks, i) for i in range(3)], alone)

    def test_each_has_n_answers(self):
        answer = self.good(TEXT, fields(TEXT, PROMPTS[:2], n=2))
        self.assertEqual([said(answer, i) for i in range(4)], [self.say(TEXT, prompt) for prompt in PROMPTS[:2] for _ in range(2)])

    def test_more_than_can_run_at_once(self):
        prompts = [f"the rain {i}" for i in range(20)]
        answer = self.good(TEXT, fields(TEXT, prompts, max_tokens=2))
        self.assertEqual([said(answer, i) for i in range(20)], [self.say(TEXT, prompt, max_tokens=2) for prompt in prompts])

    def test_what_cannot_be_answered(self):
        self.refuse(self.ask("POST", TEXT, {"prompt": ["a"] * 65}), 400, "64", param="prompt")
        self.refuse(self.ask("POST", TEXT, {"prompt": ["a", ""]}), 400, param="prompt")
        self.refuse(self.ask("POST", TEXT, {"prompt": ["a", "b" * 400_000]}), 400, param="prompt", code="context_length_exceeded")


class ProbabilitiesOfPrompts(Served):
    def echoed(self, prompt, **more):
        return self.good(TEXT, fields(TEXT, prompt, echo=True, logprobs=3, **more))["choices"][0]

    def test_they_are_those_of_the_same_text_as_an_answer(self):
        """The log probabilities of an answer are those that it has as part of a prompt."""
        body = fields(TEXT, logprobs=3, max_tokens=12)
        answer = self.good(TEXT, body)["choices"][0]
        tokens = self.good("/tokenize", {"content": body["prompt"], "add_special": True})["tokens"]
        begun = self.echoed(body["prompt"], max_tokens=0)
        self.assertEqual((begun["text"], len(begun["logprobs"]["tokens"])), (body["prompt"], len(tokens)))
        whole = self.echoed(body["prompt"] + answer["text"], max_tokens=0)["logprobs"]
        self.assertEqual(whole["tokens"][len(tokens):], answer["logprobs"]["tokens"], "the text has other tokens")
        for i, (of_prompt, of_answer) in enumerate(zip(whole["top_logprobs"][len(tokens):], answer["logprobs"]["top_logprobs"], strict=True)):
            self.assertEqual(set(of_prompt), set(of_answer))
            for token, logprob in of_answer.items():
                self.assertAlmostEqual(of_prompt[token], logprob, delta=1e-3, msg=i)

    def test_nothing_precedes_the_first(self):
        logprobs = self.echoed("the rain", max_tokens=1)["logprobs"]
        self.assertEqual((logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]), (None, None))
        for logprob, likeliest in zip(logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True):
            self.assertLess(logprob, 0)
            self.assertLessEqual(math.fsum(map(math.exp, likeliest.values())), 1 + 1e-5)

    def test_again_and_in_a_stream(self):
        """A prompt that is in memory is read again, because its probabilities are not kept."""
        body = fields(TEXT, echo=True, logprobs=2, max_tokens=4)
        first = self.good(TEXT, body)["choices"][0]
        self.assertEqual(self.good(TEXT, body)["choices"][0], first)
        chunks = self.stream(TEXT, body)
        self.assertEqual(told(chunks), first["text"])
        streamed = [choice["logprobs"] for choice in choices_of(chunks) if choice["logprobs"]]
        for name, values in first["logprobs"].items():
            self.assertEqual([value for one in streamed for value in one[name]], values, name)

    def test_offsets_are_places_in_the_text(self):
        for text in ("the rain in Spain", "a</s>b c", "<s>the rain", "日本 the rain"):
            choice = self.echoed(text, max_tokens=6)
            pieces = list(zip(choice["logprobs"]["tokens"], choice["logprobs"]["text_offset"]))
            for token, offset in pieces[0 if text.startswith("<s>") else 1:]:
                if not token.startswith("bytes:"):
                    self.assertTrue(choice["text"].startswith(token, offset), (text, token, offset))

    def test_there_is_an_end_to_what_is_reported(self):
        prompts = [[5] * 4000] * 40
        self.refuse(self.ask("POST", TEXT, {"prompt": prompts, "echo": True, "logprobs": 1}), 400, "160000", "131072", param="echo")

    def test_of_several_prompts(self):
        together = self.good(TEXT, fields(TEXT, PROMPTS, echo=True, logprobs=1, max_tokens=1))["choices"]
        for prompt, choice in zip(PROMPTS, together, strict=True):
            alone = self.good(TEXT, fields(TEXT, prompt, echo=True, logprobs=1, max_tokens=1))["choices"][0]
            self.assertEqual({**choice, "index": 0}, alone)


class ProbabilitiesInSegments(ProbabilitiesOfPrompts):
    FLAGS = ("--segment", "2", "--policy", "full")


class Native(Served):
    def body(self, **more):
        return {"prompt": "the rain", "temperature": 0, "n_predict": 8, **more}

    def native_stream(self, body):
        status, headers, content = self.ask("POST", NATIVE, {**body, "stream": True})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        return list(events(content.split(b"\n")))

    def test_a_whole_answer(self):
        for path in (NATIVE, "/completions"):
            answer = self.good(path, self.body())
            self.assertEqual((answer["content"], answer["stop"], answer["stop_type"]), (self.first, True, "limit"))
            self.assertEqual((answer["tokens_predicted"], answer["tokens"], answer["timings"]["predicted_n"]), (8, [], 8))
        self.assertEqual(answer["generation_settings"]["temperature"], 0)

    def test_a_stream(self):
        parts = self.native_stream(self.body(return_tokens=True, timings_per_token=True))
        self.assertEqual("".join(part["content"] for part in parts), self.first)
        self.assertEqual([part["stop"] for part in parts], [False] * (len(parts) - 1) + [True])
        tokens = [token for part in parts for token in part["tokens"]]
        self.assertEqual(tokens, self.good(NATIVE, self.body(return_tokens=True))["tokens"])
        self.assertEqual(self.good("/detokenize", {"tokens": tokens})["content"], self.first)
        self.assertTrue(all("timings" in part for part in parts))

    def test_why_it_ended(self):
        word = self.first[3:5]
        answer = self.good(NATIVE, self.body(stop=[word]))
        self.assertEqual((answer["stop_type"], answer["stopping_word"]), ("word", word))
        self.assertEqual(answer["content"], self.first[:self.first.index(word)])
        answer = self.good(NATIVE, self.body(grammar='root ::= "ab"'))
        self.assertEqual((answer["stop_type"], answer["content"]), ("eos", "ab"))

    def test_probabilities(self):
        entries = self.good(NATIVE, self.body(n_probs=3))["completion_probabilities"]
        self.assertEqual("".join(entry["token"] for entry in entries), self.first)
        for entry in entries:
            self.assertEqual(len(entry["top_logprobs"]), 3)
            self.assertEqual(entry["top_logprobs"][0]["id"], entry["id"], "temperature 0")
        self.assertNotIn("completion_probabilities", self.good(NATIVE, self.body()))

    def test_probabilities_after_sampling(self):
        more = {"n_probs": 5, "post_sampling_probs": True, "seed": 1}
        for entry in self.good(NATIVE, self.body(**more))["completion_probabilities"]:
            self.assertEqual((entry["prob"], [(top["id"], top["prob"]) for top in entry["top_probs"]]), (1, [(entry["id"], 1)]))
        before = self.good(NATIVE, self.body(**more, temperature=1, top_k=0, top_p=1, min_p=0))["completion_probabilities"]
        plain = self.good(NATIVE, self.body(n_probs=5, seed=1, temperature=1, top_k=0, top_p=1, min_p=0))["completion_probabilities"]
        for entry, model in zip(before, plain, strict=True):
            self.assertAlmostEqual(entry["prob"], math.exp(model["logprob"]), places=3, msg="nothing but the softmax")
            self.assertEqual([top["id"] for top in entry["top_probs"]], [top["id"] for top in model["top_logprobs"]])
        for entry in self.good(NATIVE, self.body(**more, temperature=2, top_k=3, top_p=1, min_p=0))["completion_probabilities"]:
            self.assertEqual(len(entry["top_probs"]), 3)
            self.assertAlmostEqual(sum(top["prob"] for top in entry["top_probs"]), 1, places=4)
            self.assertIn(entry["prob"], [top["prob"] for top in entry["top_probs"]])

    def test_prompts(self):
        tokens = self.good("/tokenize", {"content": "the rain", "add_special": True})["tokens"]
        self.assertEqual(self.good(NATIVE, self.body(prompt=tokens))["content"], self.first)
        mixed = [*tokens[:2], self.good("/detokenize", {"tokens": tokens[2:]})["content"]]
        self.assertEqual(self.good(NATIVE, self.body(prompt=mixed))["content"], self.first)
        both = self.good(NATIVE, self.body(prompt=["the rain", "a dog"]))
        self.assertEqual([one["index"] for one in both], [0, 1])
        self.assertEqual(both[0]["content"], self.first)
        self.assertEqual([one["tokens_predicted"] for one in both], [8, 8])
        self.assertEqual([one["tokens_evaluated"] for one in both], [len(self.good("/tokenize", {"prompt": p})["tokens"]) for p in ("the rain", "a dog")])
        self.refuse(self.ask("POST", NATIVE, {"n_predict": 2}), 400, "prompt", param="prompt")

    def test_a_model_without_tokens_for_it_fills_in_nothing(self):
        self.refuse(self.ask("POST", "/infill", {"input_prefix": "a", "input_suffix": "b"}), 400, "middle", param="input_suffix")
        self.refuse(self.ask("POST", TEXT, {"prompt": "a", "suffix": "b"}), 400, "middle", param="suffix")
        self.refuse(self.ask("POST", "/infill", {"input_suffix": "b"}), 400, "input_prefix", param="input_prefix")
        self.refuse(self.ask("POST", "/infill", {"input_prefix": "a", "input_suffix": "b", "input_extra": [1]}), 400, param="input_extra")

    def test_properties(self):
        properties = self.good_get("/props")
        self.assertEqual(properties["total_slots"], 4)
        self.assertEqual((properties["policy"], properties["kv_budget"]), ("cake+", 1024))
        self.assertGreater(properties["default_generation_settings"]["n_ctx"], 100)
        self.assertEqual(properties["default_generation_settings"]["params"]["top_k"], 40)
        self.assertEqual((properties["chat_template"], properties["chat_template_name"]), ("", "chatml"))

    def test_the_tokenizer_as_vllm_has_it(self):
        info = self.good_get("/tokenizer_info")
        self.assertEqual(info["bos_token"], "<s>")
        tokens = self.good("/tokenize", {"prompt": "the rain"})
        plain = self.good("/tokenize", {"prompt": "the rain", "add_special_tokens": False})["tokens"]
        self.assertEqual((tokens["tokens"][1:], tokens["count"]), (plain, len(plain) + 1))
        self.assertEqual(self.good("/detokenize", {"tokens": plain})["prompt"], "the rain")
        self.assertEqual(len(self.good("/tokenize", {"content": "a</s>b"})["tokens"]), 3)
        self.assertGreater(len(self.good("/tokenize", {"content": "a</s>b", "parse_special": False})["tokens"]), 3)

    def good_get(self, path):
        status, _, answer = self.ask("GET", path)
        self.assertEqual(status, 200, answer)
        return answer

    def test_no_embeddings(self):
        self.assert_error(self.ask("POST", "/v1/embeddings", {"input": "a"}), 400, "embedding")


class Silence(Served):
    """Streams whose request waits behind another one."""

    FLAGS = ("-c", 60_000, "--parallel", 1)

    def test_a_stream_that_waits_has_events(self):
        long = fields(TEXT, max_tokens=59_000, ignore_eos=True, stream=True)
        bodies = {CHAT: fields(CHAT), TEXT: fields(TEXT), NATIVE: {"prompt": "a"}, "/v1/responses": {"input": "a"},
                  "/v1/messages": {"max_tokens": 8, "messages": [{"role": "user", "content": "a"}]}}
        with contextlib.ExitStack() as stack:
            stack.enter_context(Wire(self.server)).send(request("POST", TEXT, body=long))
            self.assertTrue(until(lambda: self.number("cake_requests_generating") == 1))
            wires = {path: stack.enter_context(Wire(self.server, 20)) for path in bodies}
            for path, wire in wires.items():
                wire.send(request("POST", path, body={**bodies[path], "stream": True}))
            time.sleep(11)
            self.assertEqual(self.number("cake_requests_waiting"), len(wires), "the first answer is too short for this test")
            for path, wire in wires.items():
                wire.socket.settimeout(0.5)
                lines = []
                with contextlib.suppress(TimeoutError):
                    while line := wire.file.readline():
                        lines.append(line)
                [*_, last] = [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]
                choice = last.get("choices", [{}])[0]
                expected = {CHAT: {"delta": {}}, TEXT: {"text": ""}, NATIVE: {"content": ""}, "/v1/messages": {"type": "ping"},
                            "/v1/responses": {"type": "response.in_progress"}}[path]
                self.assertEqual({name: {**last, **choice}.get(name) for name in expected}, expected)


class Continued(Served):
    MESSAGES = [{"role": "user", "content": "the rain"}, {"role": "assistant", "content": "in Spain stays "}]

    def prompt(self, messages=None, **more):
        return self.good("/apply-template", {"messages": messages or self.MESSAGES, **more})["prompt"]

    def test_the_last_message_of_the_assistant(self):
        self.assertTrue(self.prompt().endswith("in Spain stays "), self.prompt())
        self.assertEqual(self.prompt(continue_final_message=True, add_generation_prompt=False), self.prompt())
        begun = self.prompt(self.MESSAGES[:1])
        self.assertEqual(self.prompt(), begun + "in Spain stays ")

    def test_or_a_new_one(self):
        answered = self.prompt(add_generation_prompt=True)
        self.assertEqual(answered, self.prompt(continue_final_message=False))
        self.assertNotEqual(answered, self.prompt())
        self.assertTrue(answered.startswith(self.prompt()[:-1]))
        whole = self.prompt(self.MESSAGES[:1])
        self.assertTrue(whole.startswith(self.prompt(self.MESSAGES[:1], add_generation_prompt=False)))

    def test_typed_names_stay_text(self):
        begun = [self.MESSAGES[0], {"role": "assistant", "content": "</s>the"}]
        n = [self.good(CHAT, {"messages": messages, "max_tokens": 1})["usage"]["prompt_tokens"]
             for messages in (begun, [self.MESSAGES[0], {"role": "assistant", "content": "the"}])]
        self.assertGreater(n[0], n[1] + 1)

    def test_what_excludes_each_other(self):
        for more in ({"continue_final_message": True, "add_generation_prompt": True}, {"continue_final_message": True, "messages": self.MESSAGES[:1]}):
            self.refuse(self.ask("POST", CHAT, {"messages": self.MESSAGES, **more}), 400, param="continue_final_message")


if __name__ == "__main__":
    unittest.main()
