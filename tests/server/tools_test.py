#!/usr/bin/env python3
"""Tests of tools, of the Responses API and of the Messages API, with the bundled model."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server.served import CHAT, Served, fields, said, told  # noqa: E402
from support.server import events  # noqa: E402

WEATHER = {"type": "object", "additionalProperties": False, "required": ["city"],
           "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [{"type": "function", "function": {"name": name, "description": "It is good.", "parameters": schema}}
         for name, schema in (("get_weather", WEATHER), ("stop", NOTHING))]
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"


class Tooled(Served):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tokens = [cls.server.ask("POST", "/tokenize", {"content": text, "add_special": False})[2]["tokens"] for text in '"}]']
        # The bundled model would not end its texts.
        cls.usual = {"temperature": 1, "max_tokens": 400, "logit_bias": {str(token[-1]): 8 for token in tokens}}

    def check_call(self, name, arguments):
        self.assertIn(name, ("get_weather", "stop"))
        if name == "stop":
            return self.assertEqual(arguments, {})
        self.assertLessEqual(set(arguments), {"city", "days"})
        self.assertIsInstance(arguments["city"], str)
        self.assertIn(arguments.get("days", 1), range(1, 10))

    def stream_of(self, path, body):
        """Returns the events of a stream, each with its name."""
        status, headers, content = self.ask("POST", path, {**body, "stream": True})
        self.assertEqual((status, headers["Content-Type"]), (200, "text/event-stream"))
        read = []
        for block in content.decode().split("\n\n"):
            if block and not block.startswith(":"):
                name, data = block.split("\n")
                self.assertEqual((name[:7], data[:6]), ("event: ", "data: "))
                read.append(json.loads(data[6:]))
                self.assertEqual(read[-1]["type"], name[7:])
        return read


class Chat(Tooled):
    def body(self, **more):
        return {**fields(CHAT), **self.usual, "tools": TOOLS, **more}

    def test_a_required_call_is_valid(self):
        for choice, names in (("required", {"get_weather", "stop"}), ({"type": "function", "function": {"name": "stop"}}, {"stop"}),
                              ({"type": "function", "function": {"name": "get_weather"}}, {"get_weather"})):
            for seed in range(4):
                with self.subTest(choice=choice, seed=seed):
                    [answer] = self.good(CHAT, self.body(tool_choice=choice, seed=seed, parallel_tool_calls=False))["choices"]
                    self.assertEqual((answer["finish_reason"], answer["message"]["content"]), ("tool_calls", None))
                    [call] = answer["message"]["tool_calls"]
                    self.assertEqual(call["type"], "function")
                    self.assertRegex(call["id"], r"\A[0-9a-zA-Z]{9}\Z")
                    self.assertIn(call["function"]["name"], names)
                    self.check_call(call["function"]["name"], json.loads(call["function"]["arguments"]))

    def test_a_stream_has_the_same_calls(self):
        for parallel in (False, True):
            body = self.body(tool_choice="required", seed=5, parallel_tool_calls=parallel)
            whole = self.good(CHAT, body)["choices"][0]["message"]["tool_calls"]
            calls = []
            chunks = self.stream(CHAT, body)
            for chunk in chunks:
                for delta in chunk["choices"][0]["delta"].get("tool_calls", []):
                    if "id" in delta:
                        self.assertEqual(delta["index"], len(calls))
                        calls.append([delta["function"]["name"], ""])
                    calls[delta["index"]][1] += delta["function"]["arguments"]
            self.assertEqual(calls, [[call["function"]["name"], call["function"]["arguments"]] for call in whole])
            if not parallel:  # several calls may reach the limit of tokens
                self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "tool_calls")
                self.assertEqual(told(chunks), "")

    def test_without_a_choice_the_model_may_answer(self):
        for choice in ("auto", "none", None):
            [answer] = self.good(CHAT, {**fields(CHAT), "tools": TOOLS, "tool_choice": choice})["choices"]
            self.assertEqual(answer["finish_reason"], "length")
            self.assertIsInstance(answer["message"]["content"], str)
            self.assertNotIn("tool_calls", answer["message"])

    def test_a_call_and_its_result_are_read(self):
        call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}}
        messages = [{"role": "user", "content": "the rain"}, {"role": "assistant", "content": None, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "c", "content": "It rains."}]
        n = [self.good(CHAT, self.body(messages=messages[:k], max_tokens=1))["usage"]["prompt_tokens"] for k in (1, 2, 3)]
        self.assertGreater(n[1], n[0] + 20)
        self.assertGreater(n[2], n[1] + 5)
        del call["function"]["arguments"]
        self.assertTrue(self.good(CHAT, self.body(messages=messages, max_tokens=1)))

    def test_wrong_fields(self):
        for more, param, *words in (
                ({"tools": {}}, "tools", "array"), ({"tools": [1]}, "tools", "tools[0]"), ({"tools": [{"type": "function"}]}, "tools"),
                ({"tools": [{"type": "other"}]}, "tools"), ({"tools": [TOOLS[0], TOOLS[0]]}, "tools", "get_weather"),
                ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools", "letters"),
                ({"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}, "tools", "schema"),
                ({"tool_choice": "required"}, "tool_choice", "no tools"),
                ({"tools": TOOLS, "tool_choice": "other"}, "tool_choice"),
                ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "go"}}}, "tool_choice", "go"),
                ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls"),
                ({"tools": TOOLS, "grammar": 'root ::= "a"'}, "tools", "constraint"),
                ({"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": 1}}}]}, "tools", "enforced")):
            self.refuse_fields(CHAT, more, *words, param=param)


class Responses(Tooled):
    def test_a_text(self):
        answer = self.good(RESPONSES, {"input": "the rain", "max_output_tokens": 8, "temperature": 0, "instructions": "in Spain"})
        self.assertRegex(answer["id"], r"\Aresp_[0-9a-f]{32}\Z")
        self.assertEqual((answer["object"], answer["status"], answer["incomplete_details"]), ("response", "incomplete", {"reason": "max_output_tokens"}))
        [item] = answer["output"]
        self.assertEqual((item["type"], item["role"], item["content"][0]["type"]), ("message", "assistant", "output_text"))
        same = self.good(CHAT, {"messages": [{"role": "system", "content": "in Spain"}, {"role": "user", "content": "the rain"}],
                                "max_tokens": 8, "temperature": 0})
        self.assertEqual(item["content"][0]["text"], said(same))
        self.assertEqual(answer["usage"]["input_tokens"], same["usage"]["prompt_tokens"])

    def test_a_stream(self):
        body = {"input": [{"role": "user", "content": [{"type": "input_text", "text": "the rain"}]}], "max_output_tokens": 8, "temperature": 0}
        whole = self.good(RESPONSES, body)["output"][0]["content"][0]["text"]
        read = self.stream_of(RESPONSES, body)
        self.assertEqual([event["sequence_number"] for event in read], list(range(len(read))))
        names = [event["type"].removeprefix("response.") for event in read]
        self.assertEqual(names[:4], ["created", "in_progress", "output_item.added", "content_part.added"])
        self.assertEqual(names[-4:], ["output_text.done", "content_part.done", "output_item.done", "incomplete"])
        self.assertEqual("".join(event["delta"] for event in read if event["type"] == "response.output_text.delta"), whole)
        self.assertEqual(read[-1]["response"]["output"][0]["content"][0]["text"], whole)

    def test_calls(self):
        tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
        body = {**self.usual, "input": "the rain", "tools": tools, "tool_choice": "required", "seed": 2, "parallel_tool_calls": False}
        [item] = self.good(RESPONSES, body)["output"]
        self.assertEqual(item["type"], "function_call")
        self.check_call(item["name"], json.loads(item["arguments"]))
        read = self.stream_of(RESPONSES, body)
        [done] = [event for event in read if event["type"] == "response.function_call_arguments.done"]
        self.assertEqual(done["arguments"], item["arguments"])
        output = {"type": "function_call_output", "call_id": item["call_id"], "output": "It rains."}
        more = self.good(RESPONSES, {"input": [{"role": "user", "content": "the rain"}, item, output], "tools": tools, "max_output_tokens": 1})
        self.assertGreater(more["usage"]["input_tokens"], 50)

    def test_a_conversation_goes_on(self):
        first = self.good(RESPONSES, {"input": "the rain", "max_output_tokens": 8, "temperature": 0})
        text = first["output"][0]["content"][0]["text"]
        second = self.good(RESPONSES, {"input": "in Spain", "previous_response_id": first["id"], "max_output_tokens": 8, "temperature": 0})
        messages = [{"role": "user", "content": "the rain"}, {"role": "assistant", "content": text}, {"role": "user", "content": "in Spain"}]
        same = self.good(CHAT, {"messages": messages, "max_tokens": 8, "temperature": 0, "cache_prompt": False})
        self.assertEqual(second["usage"]["input_tokens"], same["usage"]["prompt_tokens"])
        self.assertEqual(second["previous_response_id"], first["id"])
        unkept = self.good(RESPONSES, {"input": "the rain", "max_output_tokens": 1, "store": False})
        for name in (unkept["id"], "resp_none"):
            self.refuse(self.ask("POST", RESPONSES, {"input": "a", "previous_response_id": name}), 400, "memory", param="previous_response_id")

    def test_wrong_input(self):
        for value in (None, 1, {}, [1], [{"type": "item_reference"}], [{"role": "user", "content": [{"type": "input_image"}]}]):
            with self.subTest(value=value):
                self.refuse(self.ask("POST", RESPONSES, {"input": value}), 400, "input", param="input")


class Messages(Tooled):
    def body(self, **more):
        return {"messages": [{"role": "user", "content": "the rain"}], "max_tokens": 8, "temperature": 0, **more}

    def test_a_text(self):
        answer = self.good(MESSAGES, self.body(system=[{"type": "text", "text": "in Spain"}]))
        same = self.good(CHAT, {"messages": [{"role": "system", "content": "in Spain"}, {"role": "user", "content": "the rain"}],
                                "max_tokens": 8, "temperature": 0, "cache_prompt": False})
        self.assertEqual(answer["content"], [{"type": "text", "text": said(same)}])
        self.assertEqual((answer["type"], answer["role"], answer["stop_reason"], answer["stop_sequence"]), ("message", "assistant", "max_tokens", None))
        self.assertEqual(answer["usage"]["input_tokens"], same["usage"]["prompt_tokens"])
        counted = self.good(MESSAGES + "/count_tokens", self.body(system="in Spain"))
        self.assertEqual(counted, {"input_tokens": same["usage"]["prompt_tokens"]})

    def test_a_stop_sequence(self):
        text = self.good(MESSAGES, self.body())["content"][0]["text"]
        stop = text.split()[1]
        answer = self.good(MESSAGES, self.body(stop_sequences=["☃", stop]))
        self.assertEqual((answer["stop_reason"], answer["stop_sequence"]), ("stop_sequence", stop))

    def test_a_stream(self):
        whole = self.good(MESSAGES, self.body())["content"][0]["text"]
        read = self.stream_of(MESSAGES, self.body())
        names = [event["type"] for event in read]
        self.assertEqual(names[:3], ["message_start", "ping", "content_block_start"])
        self.assertEqual(names[-3:], ["content_block_stop", "message_delta", "message_stop"])
        self.assertEqual("".join(event["delta"]["text"] for event in read if event["type"] == "content_block_delta"), whole)
        self.assertEqual(read[-2]["delta"]["stop_reason"], "max_tokens")
        self.assertEqual(read[-2]["usage"]["output_tokens"], 8)

    def test_calls(self):
        tools = [{"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]} for tool in TOOLS]
        body = self.body(**self.usual, tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True}, seed=3)
        answer = self.good(MESSAGES, body)
        [block] = answer["content"]
        self.assertEqual((answer["stop_reason"], block["type"]), ("tool_use", "tool_use"))
        self.check_call(block["name"], block["input"])
        read = self.stream_of(MESSAGES, body)
        [start] = [event["content_block"] for event in read if event["type"] == "content_block_start"]
        self.assertEqual((start["type"], start["name"], start["input"]), ("tool_use", block["name"], {}))
        arguments = "".join(event["delta"]["partial_json"] for event in read if event["type"] == "content_block_delta")
        self.assertEqual(json.loads(arguments), block["input"])
        messages = [{"role": "user", "content": "the rain"}, {"role": "assistant", "content": answer["content"]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"], "content": "It rains."}]}]
        more = self.good(MESSAGES, {**body, "messages": messages, "tool_choice": {"type": "auto"}, "max_tokens": 1})
        self.assertGreater(more["usage"]["input_tokens"] + more["usage"]["cache_read_input_tokens"], 50)

    def test_errors_have_the_shape_of_the_api(self):
        for body in ({}, {"messages": []}, {"messages": [{"role": "robot", "content": "a"}]}, {"messages": [1]},
                     {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, self.body(tools=1), self.body(temperature=-1)):
            with self.subTest(body=body):
                status, _, answer = self.ask("POST", MESSAGES, body)
                self.assertEqual((status, answer["type"], answer["error"]["type"]), (400, "error", "invalid_request_error"))
                self.assertRegex(answer["error"]["message"], r"\A[^\n]{10,500}\Z")


class ToolsAndSchemas(Tooled):
    SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["n"], "additionalProperties": False}

    def test_an_answer_is_a_call_or_keeps_to_the_schema(self):
        for field in ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": self.SCHEMA}}}, {"guided_json": self.SCHEMA}):
            kinds = set()
            for seed in range(12):
                body = {**fields(CHAT), **self.usual, "tools": TOOLS, "seed": seed, "parallel_tool_calls": False, **field}
                [choice] = self.good(CHAT, body)["choices"]
                kinds.add(choice["finish_reason"])
                if choice["finish_reason"] == "stop":
                    value = json.loads(choice["message"]["content"])
                    self.assertEqual(list(value), ["n"])
                    self.assertIn(value["n"], range(10))
                elif choice["finish_reason"] == "tool_calls":
                    [call] = choice["message"]["tool_calls"]
                    self.check_call(call["function"]["name"], json.loads(call["function"]["arguments"]))
            self.assertIn("stop", kinds)

    def test_a_required_call_has_no_schema_of_the_answer(self):
        body = {**fields(CHAT), **self.usual, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "stop"}},
                "parallel_tool_calls": False, "response_format": {"type": "json_object"}}
        self.assertEqual(self.good(CHAT, body)["choices"][0]["finish_reason"], "tool_calls")

    def test_keywords_that_are_ignored_are_named(self):
        schema = {**self.SCHEMA, "not": {}}
        body = {**fields(CHAT), **self.usual, "tools": TOOLS, "response_format": {"type": "json_object", "schema": schema}}
        status, headers, answer = self.ask("POST", CHAT, body)
        self.assertEqual((status, headers["X-Cake-Not-Enforced"]), (200, "not"), answer)


class OtherPaths(Tooled):
    def test_paths_without_a_version(self):
        self.assertEqual(said(self.good("/chat/completions", fields(CHAT))), said(self.good(CHAT, fields(CHAT))))
        self.assertEqual(self.server.get("/models"), self.server.get("/v1/models"))

    def test_the_prompt_of_a_conversation(self):
        prompt = self.good("/apply-template", fields(CHAT))["prompt"]
        self.assertIn("the rain", prompt)
        self.assertEqual(said(self.good("/v1/completions", {**fields("/v1/completions"), "prompt": prompt})), said(self.good(CHAT, fields(CHAT))))


if __name__ == "__main__":
    unittest.main()
