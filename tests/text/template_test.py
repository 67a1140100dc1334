#!/usr/bin/env python3
"""Tests that cake renders chat templates to the same bytes as jinja2 configured by transformers, and refuses the same.

The templates (*.jinja) are those of this folder and of CAKE_TEMPLATES_DIR, if it is set."""

import datetime
import json
import os
import pathlib
import subprocess
import sys
import unittest

import conversations
import jinja_reference

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from support.real_models import real_model  # noqa: E402

HERE = pathlib.Path(__file__).parent
# Known differences (docs/chat-templates.md): Python's markup, and numbers with an exponent after `~`.
KNOWN = {
    ("meetkai-functionary-medium-v3.1", "tools"),
    ("meetkai-functionary-medium-v3.1", "arguments as text"),
    ("meetkai-functionary-medium-v3.1", "numbers"),
    ("meetkai-functionary-medium-v3.2", "numbers"),
}


class Renderer:
    """A process of the tool that renders templates with cake."""

    def __init__(self):
        self.process = subprocess.Popen([os.environ["CAKE_RENDER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def render(self, source, context):
        self.process.stdin.write(json.dumps({"template": source, "context": context}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def seconds(self):
        """Returns the CPU time of the tool, which does not depend on the load of the machine."""
        user, system = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Templates(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.renderer = Renderer()

    @classmethod
    def tearDownClass(cls):
        cls.renderer.close()

    def compare(self, name, source):
        n_rendered = 0
        today = datetime.date.today()
        jinja_reference.NOW = datetime.datetime.now()
        for conversation in conversations.CONVERSATIONS:
            if any(name.startswith(known) and conversation.startswith(case) for known, case in KNOWN):
                continue
            with self.subTest(template=name, conversation=conversation):
                context = conversations.context(conversation)
                expected, error = jinja_reference.render(source, context)
                answer = self.renderer.render(source, context)
                if expected is None:
                    self.assertIn("error", answer, f"jinja2 raises {error}")
                else:
                    self.assertEqual(expected, answer.get("text"), answer.get("error"))
                    n_rendered += 1
        self.assertEqual(today, datetime.date.today(), "midnight came between two renderings: again")
        return n_rendered

    def test_ours(self):
        paths = sorted((HERE / "templates").glob("*.jinja"))
        self.assertGreaterEqual(len(paths), 25)
        for path in paths:
            n_rendered = self.compare(path.stem, path.read_text(encoding="utf-8"))
            self.assertGreaterEqual(n_rendered, 1, path.name)

    def compare_of_model(self, name):
        import gguf

        self.compare(name, gguf.GGUFReader(real_model(name)).get_field("tokenizer.chat_template").contents())

    def test_that_of_smollm2(self):
        self.compare_of_model("smollm2-135m")

    def test_that_of_qwen2(self):
        self.compare_of_model("qwen2.5-coder-0.5b")

    def test_those_of_a_folder(self):
        folder = os.environ.get("CAKE_TEMPLATES_DIR")
        paths = sorted(pathlib.Path(folder).glob("*.jinja")) if folder else []
        print(f"templates of CAKE_TEMPLATES_DIR: {len(paths)}")
        for path in paths:
            self.compare(path.stem.partition("--")[2] or path.stem, path.read_text(encoding="utf-8"))

    def error(self, source, messages=()):
        answer = self.renderer.render(source, {"messages": list(messages)})
        self.assertIn("error", answer, answer.get("text", "")[:200])
        return answer["error"]

    def test_errors_are_a_sentence_with_the_line(self):
        for source, line, says in [
            ("a\n{% if %}\n", 2, "not valid Jinja"),
            ("a\n\n{{ messages | nofilter }}", 3, "nofilter"),
            ("{{ 'a' }}\n{{ missing.deeper }}", 2, "undefined"),
            ("\n\n\n{{ raise_exception('Only users.') }}", 4, "rejects the conversation: Only users."),
            ("{% macro m() %}\n{{ 1 // 0 }}\n{% endmacro %}\n\n{{ m() }}", 2, ""),
        ]:
            with self.subTest(source):
                message = self.error(source)
                self.assertIn(f"line {line} of the chat template", message)
                self.assertIn(says, message)
                self.assertNotIn("\n", message)

    def test_what_loops_for_ever_is_refused_within_a_second(self):
        loop = "{% for i in range(100000) %}{% for j in range(100000) %}%s{% endfor %}{% endfor %}"
        deep = "{% set ns = namespace(x=[]) %}" + loop.replace("%s", "{% set ns.x = [[[[[[[[ns.x]]]]]]]] %}")
        for source in [
            loop.replace("%s", ""),
            loop.replace("%s", "{{ 'abc' * 1000 }}"),
            "{% set ns = namespace(x='a') %}" + loop.replace("%s", "{% set ns.x = ns.x ~ ns.x %}"),
            "{% set ns = namespace(x=[1]) %}" + loop.replace("%s", "{% set ns.x = ns.x + ns.x %}"),
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            deep,
            "{% set ns = namespace(x=[1]) %}" + loop.replace("%s", "{% set ns.x = [ns.x, ns.x] | sum(start=[]) %}"),
            "{{ 'a' * 10000000000 }}",
            "{{ [1] * 100000000 }}",
            "{{ 'a'.center(10000000000) }}",
            "{% for a in 'x' * 1000000 %}{{ 'x' * 1000000 }}{% endfor %}",
        ]:
            with self.subTest(source):
                before = self.renderer.seconds()
                self.error(source)
                self.assertLess(self.renderer.seconds() - before, 1)

    def test_nests_as_deep_as_can_be_made_are_printed_or_refused(self):
        for use in ["{{ ns.x }}", "{{ ns.x ~ '' }}", "{{ ns.x == ns.y }}", "{{ ns.x | string }}", "{{ ns.x | tojson }}", "{{ [ns.x] | join }}", "{{ ns.x | unique | list | length }}"]:
            source = "{% set ns = namespace(x=[], y=[]) %}{% for i in range(60000) %}{% set ns.x = [[[[ns.x]]]] %}{% set ns.y = [[[[ns.y]]]] %}{% endfor %}" + use
            with self.subTest(use):
                self.assertTrue(self.renderer.render(source, {"messages": []}))


if __name__ == "__main__":
    unittest.main()
