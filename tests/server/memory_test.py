#!/usr/bin/env python3
"""Tests of what the server keeps in memory between requests: prefixes of several prompts, and sequences in files."""

import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server.served import CHAT, DOCUMENT, TEXT, Served, fields, said  # noqa: E402

SYSTEM = {"role": "system", "content": DOCUMENT[:1500]}
TOOLS = [{"type": "function", "function": {"name": f"tool_{i}", "description": DOCUMENT[40 * i:40 * i + 40],
                                           "parameters": {"type": "object", "properties": {}}}} for i in range(20)]


class Prefixes(Served):
    """Prompts with the same system message or the same tools, which are too long to be kept whole."""

    def cached(self, messages, **more):
        answer = self.good(CHAT, {"messages": messages, "temperature": 0, "max_tokens": 2, **more})
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def question(self, begin):
        return {"role": "user", "content": DOCUMENT[begin:begin + 6000]}

    def test_a_system_message_is_read_once(self):
        more = {"user": "system"}
        self.assertEqual(self.cached([SYSTEM, self.question(2000)], **more), 0)
        self.cached([SYSTEM, self.question(2500)], **more)  # if the memory is in use, it is kept when it is seen again
        n = self.cached([SYSTEM, self.question(3000)], **more)
        self.assertGreater(n, 300)
        self.assertEqual(self.cached([SYSTEM, self.question(4000)], **more), n)
        self.assertEqual(self.cached([SYSTEM, self.question(5000)], **more, cache_prompt=False), 0)
        self.assertEqual(self.cached([SYSTEM, self.question(5000)], user="another"), 0, "it continues from another's prefix")
        self.assertEqual(self.cached([{**SYSTEM, "content": DOCUMENT[1:1500]}, self.question(6000)], **more), 0)

    def test_a_system_message_that_takes_most_of_the_budget_is_read_with_the_question(self):
        for _ in range(2):
            for begin in (2000, 3000):
                self.assertEqual(self.cached([SYSTEM, self.question(begin)], user="budget", kv_budget=512), 0)

    def test_tools_are_read_once_whatever_the_budget(self):
        more = {"user": "tools", "tools": TOOLS, "kv_budget": 256}
        self.assertEqual(self.cached([self.question(2000)], **more), 0)
        self.cached([self.question(2500)], **more)
        self.assertGreater(self.cached([self.question(3000)], **more), 700)


class Slots(Served):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.FLAGS = ("--slot-save-path", str(cls.folder))
        super().setUpClass()

    def act(self, action, slot=0, **body):
        return self.ask("POST", f"/slots/{slot}?action={action}", body)

    def test_a_sequence_is_saved_erased_and_restored(self):
        for policy, n_bytes, budget in (("cake", 4000, {"kv_budget": 256}), ("full", 1500, {})):
            with self.subTest(policy):
                whose = {"user": policy}
                body = fields(TEXT, DOCUMENT[:n_bytes], policy=policy, **budget, **whose)
                first = self.good(TEXT, body)
                n = first["usage"]["total_tokens"] - 1  # the last token of the answer is not in the cache yet
                status, _, saved = self.act("save", filename=f"{policy}.bin", **whose)
                self.assertEqual((status, saved["n_saved"]), (200, n), saved)
                self.assertIn(saved["n_written"], [file.stat().st_size for file in self.folder.glob(f"{policy}.bin.*")])
                status, _, erased = self.act("erase", **whose)
                self.assertEqual((status, erased["n_erased"]), (200, n))
                on = {**body, "prompt": body["prompt"] + said(first) + " And then it"}
                status, _, restored = self.act("restore", filename=f"{policy}.bin", **whose)
                self.assertEqual((status, restored.get("n_restored")), (200, n), restored)
                answer = self.good(TEXT, on)
                self.assertGreater(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
                self.assertEqual(self.good(TEXT, {**body, "user": "again"})["choices"], first["choices"])
                again = self.good(TEXT, {**on, "user": "again"})
                self.assertEqual((said(again), again["usage"]), (said(answer), answer["usage"]), "as if it had stayed in memory")

    def test_by_the_id_of_an_answer(self):
        answer = self.good(TEXT, fields(TEXT, "the rain in Spain", user="id"))
        self.refuse(self.act("save", answer["id"], filename="id"), 400, "idle", param="id")
        self.assertEqual(self.act("save", answer["id"], filename="id", user="id")[0], 200)
        self.assertEqual(self.act("erase", answer["id"], user="id")[0], 200)
        self.refuse(self.act("erase", answer["id"], user="id"), 400, "idle", param="id")
        restored = self.act("restore", filename="id", user="id")[2]
        self.assertRegex(restored["id"], "^slot-[0-9a-f]{32}$")
        self.assertEqual(self.ask("GET", f"/slots/{restored['id']}")[2]["prompt_tokens"], answer["usage"]["prompt_tokens"])

    def test_what_was_evicted_is_not_continued_from(self):
        body = fields(TEXT, DOCUMENT[:4000], kv_budget=256, user="cut")
        self.good(TEXT, body)
        for action in ("save", "erase", "restore"):
            self.assertEqual(self.act(action, filename="cut", user="cut")[0], 200)
        answer = self.good(TEXT, {**body, "prompt": DOCUMENT[:2500] + "another end"})
        self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)

    def test_a_sequence_that_was_cut_is_saved(self):
        body = fields(TEXT, DOCUMENT[:1000], max_tokens=40, user="short")
        self.good(TEXT, body)
        first = self.good(TEXT, {**body, "max_tokens": 10})
        for action in ("save", "erase", "restore"):
            status, _, done = self.act(action, filename="short", user="short")
            self.assertEqual(status, 200, done)
        again = self.good(TEXT, {**body, "max_tokens": 10})
        self.assertEqual(said(again), said(first))
        self.assertEqual(again["usage"], first["usage"])

    def test_files_and_sequences_are_their_clients(self):
        for user in ("mine", "yours"):
            self.good(TEXT, fields(TEXT, "the rain in Spain" if user == "mine" else "a house and a dog", user=user))
        n = {user: self.act("save", filename="same", user=user)[2]["n_saved"] for user in ("mine", "yours")}
        self.assertEqual(len(set(n.values())), 2)
        for user in ("mine", "yours"):
            status, _, restored = self.act("restore", filename="same", user=user)
            self.assertEqual((status, restored.get("n_restored")), (200, n[user]))
        [mine] = (file for file in self.folder.glob("same.*") if file.read_bytes().count(b'"n_tokens":%d,' % n["mine"]))
        for file in self.folder.glob("same.*"):
            if file != mine:
                file.write_bytes(mine.read_bytes())
        self.refuse(self.act("restore", filename="same", user="yours"), 400, "another client", param="filename")
        self.refuse(self.act("save", filename="none", user="nobody"), 400, "idle", param="id")
        self.refuse(self.act("save", 999, filename="none", user="mine"), 400, "idle", param="id")

    def test_bad_requests(self):
        for name in ("", "../x", "a/b", ".hidden", "a b", "é", "x" * 200, 1, None):
            for action in ("save", "restore"):
                with self.subTest(action=action, name=name):
                    self.refuse(self.act(action, filename=name), 400, "filename", param="filename")
        self.refuse(self.act("restore", filename="none"), 400, "none", param="filename")
        self.refuse(self.act("burn"), 400, "save, restore or erase", param="action")
        self.good(TEXT, fields(TEXT))
        self.assertEqual(self.act("save", filename="damaged")[0], 200)
        [file] = self.folder.glob("damaged.*")
        file.write_bytes(b"CAKESESS" + bytes(1000))
        answer = self.act("restore", filename="damaged")
        self.refuse(answer, 400, "damaged", param="filename")
        self.assertNotIn(str(self.folder), str(answer), "the error shows the server's folder")


class WithoutFolder(Served):
    def test_it_says_how_to_get_one(self):
        self.refuse(self.ask("POST", "/slots/0?action=save", {"filename": "a"}), 501, "--slot-save-path")
        self.good(TEXT, fields(TEXT))
        self.assertEqual(self.ask("POST", "/slots/0?action=erase", {})[0], 200)


if __name__ == "__main__":
    unittest.main()
