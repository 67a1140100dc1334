#!/usr/bin/env python3
"""Tests of `cake inspect`: opens the page of a real run in a browser."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, MODELS, assert_refused, cake, command, environment  # noqa: E402

DOCUMENT = BUNDLED.parent / "document.txt"
N_LAYER = 6
N_HEAD_KV = 2
CHARTS = ("kept", "dispersion", "shift", "preference", "memory")
BROWSER = shutil.which("chromium")


def inspect(*arguments, **options):
    return cake("inspect", "-m", BUNDLED, "-t", 1, *arguments, **options)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.file = cls.folder / "report.html"
        cls.result = inspect("-f", DOCUMENT, "--max-prompt", 3000, "--policy", "cake,ada-snapkv",
                             "--kv-budget", 128, "-n", 40, "-o", cls.file)
        cls.page = cls.file.read_text(encoding="utf-8")

    def browse(self, file, *flags):
        """Returns the document after its scripts have run, and the messages on the console."""
        self.assertIsNotNone(BROWSER, "chromium is in packages.txt")
        profile = self.folder / "profile"
        result = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                 f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND",
                                 "--virtual-time-budget=10000", "--enable-logging=stderr", *flags, "--dump-dom", file.as_uri()],
                                capture_output=True, text=True, timeout=300, check=True,
                                env={**os.environ, "HOME": str(self.folder)})
        return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]

    def test_it_was_written_whole_and_quietly(self):
        self.assertEqual((self.result.returncode, self.result.stdout, self.result.stderr), (0, b"", b""))
        self.assertEqual([p.name for p in self.folder.iterdir() if p.name.startswith("report")], ["report.html"])

    def test_ctrl_c_in_the_answer_ends_it_without_a_page(self):
        out = self.folder / "none.html"
        process = subprocess.Popen(command("inspect", "-m", MODELS / "tied.gguf", "-t", 1, "-p", "the rain", "-n", 10000000,
                                           "--kv-budget", 64, "-o", out),
                                   stderr=subprocess.PIPE, env=environment())
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out.exists()), (130, False))
        self.assertIn(b"stopped", errors)

    def test_a_browser_draws_every_chart_and_complains_of_nothing(self):
        wide, narrow = ("--window-size=1400,1000",), ("--window-size=500,900",)
        dark = ("--blink-settings=preferredColorScheme=0",)
        for flags in (wide, narrow, (*wide, *dark)):
            with self.subTest(flags=flags):
                document, complaints = self.browse(self.file, *flags)
                self.assertEqual(complaints, [])
                for chart in CHARTS:
                    # Chart.js sets the size of each canvas on which it draws.
                    [canvas] = re.findall(rf'<canvas id="{chart}-chart"[^>]*>', document)
                    self.assertRegex(canvas, r'width="[1-9]\d\d')
                    self.assertIn("display: block", canvas)
                self.assertEqual(len(re.findall(r'class="cell"', document)), 2 * N_LAYER * N_LAYER)
                self.assertEqual(len(re.findall(r'class="cell head"', document)), 3 * N_LAYER * N_HEAD_KV)
                self.assertEqual(len(re.findall(r"data-hint=", document)), N_LAYER * (N_LAYER + 1) + 3 * N_LAYER * N_HEAD_KV)
                self.assertRegex(document, r"tokens that cake or ada-snapkv holds in a KV head, the other does not hold [1-9]\d* %")
                self.assertGreater(len(re.findall(r'<span data-token="\d+"|data-token="\d+" style', document)), 100)
                self.assertIn("ada-snapkv", document)

    def test_it_loads_nothing(self):
        self.assertNotRegex(self.page, r"<link|<img|<script[^>]+src|@import|url\(")

    def test_its_figures_are_those_of_the_run(self):
        data = data_of(self.page)
        self.assertEqual(len(data["tokens"]), 3000)
        self.assertTrue("".join(data["tokens"]).strip().startswith((DOCUMENT).read_text()[:200]))
        for policy in data["policies"]:
            self.assertEqual(len(policy["layers"]), N_LAYER)
            self.assertEqual([len(stage) for stage in policy["stages"]], list(range(1, N_LAYER + 1)))
            for stage, following in zip(policy["stages"], policy["stages"][1:]):
                self.assertTrue(all(b <= a for a, b in zip(stage, following)), "no budget rises")
            for layer, kept, heads in zip(policy["layers"], policy["kept"], policy["heads"]):
                n_heads = layer["n_head_kv"]
                self.assertGreater(n_heads, 1)
                self.assertEqual(len(kept), 3000)
                self.assertEqual(sum(ord(c) - 48 for c in kept), n_heads * layer["kept"])
                self.assertEqual({ord(c) - 48 for c in kept[-16:]}, {n_heads}, "the window stays in every head")
                self.assertGreater(layer["preference"], 0)
                self.assertEqual(len(heads), n_heads)
                self.assertEqual(sum(heads), n_heads * layer["kept"])
            held = [moment[1] for moment in policy["moments"]]
            self.assertLessEqual(max(held), policy["bytes_peak"])
            self.assertLess(held[-1], policy["moments"][-1][2])
            self.assertLessEqual(policy["bytes_now"], policy["bytes_budget"])

    def test_two_policies_are_compared_by_layer_and_head(self):
        data = data_of(self.page)
        first, second = data["policies"]
        for layer, common in enumerate(data["common"]):
            for n, of_first, of_second in zip(common, first["heads"][layer], second["heads"][layer]):
                self.assertLessEqual(n, min(of_first, of_second))
                self.assertGreaterEqual(n, 32, "both keep the window")
            # How many KV heads hold a token bounds in how many of them both policies do.
            counts = [(ord(a) - 48, ord(b) - 48) for a, b in zip(first["kept"][layer], second["kept"][layer])]
            self.assertLessEqual(sum(common), sum(min(a, b) for a, b in counts))
            self.assertGreaterEqual(sum(common), sum(max(0, a + b - N_HEAD_KV) for a, b in counts))
        same = self.folder / "same.html"
        inspect("-f", DOCUMENT, "--max-prompt", 1000, "--policy", "cake,cake:preference", "--kv-budget", 128, "-n", 0, "-o", same)
        data = data_of(same.read_text(encoding="utf-8"))
        self.assertEqual(data["common"], data["policies"][0]["heads"])
        one = self.folder / "one.html"
        inspect("-f", DOCUMENT, "--max-prompt", 500, "--kv-budget", 128, "-n", 0, "-o", one)
        self.assertNotIn("common", data_of(one.read_text(encoding="utf-8")))
        self.assertIn('id="both" hidden', self.browse(one)[0])

    def test_a_text_cannot_break_out_of_the_page(self):
        hostile = "</script><script>throw Error('out')</script><!-- {{data}} /*chart.js*/ \u00e9\u6cb3\U0001f370 " * 20
        file = self.folder / "hostile.html"
        self.assertEqual(inspect("-p", hostile, "--kv-budget", 64, "--window", 16, "-n", 2, "--policy", "cake,snapkv",
                                 "-o", file).returncode, 0)
        document, complaints = self.browse(file)
        self.assertEqual(complaints, [])
        self.assertIn("data-token=", document)
        self.assertEqual("".join(data_of(file.read_text(encoding="utf-8"))["tokens"]).strip(), hostile.strip())

    def test_layers_of_several_kinds_are_shown(self):
        for model in ("gemma4", "qwen35"):
            with self.subTest(model=model):
                file = self.folder / f"{model}.html"
                self.assertEqual(cake("inspect", "-m", MODELS / f"{model}.gguf", "-t", 1, "-f", DOCUMENT, "--max-prompt", 600,
                                      "--policy", "cake,snapkv", "--kv-budget", 64, "-n", 2, "-o", file).returncode, 0)
                document, complaints = self.browse(file)
                self.assertEqual(complaints, [])
                self.assertRegex(document, "KV head, the other does not hold [1-9]")

    def test_a_text_that_fits_is_shown_too(self):
        file = self.folder / "short.html"
        for policy in ("cake", "full", "full,cake"):
            with self.subTest(policy=policy):
                self.assertEqual(inspect("-p", "The river was wide.", "--policy", policy, "-n", 3, "-o", file).returncode, 0)
                document, complaints = self.browse(file)
                self.assertEqual(complaints, [])
                self.assertIn("Everything fitted", document)

    def test_wrong_use(self):
        text = ("-p", "The river")
        assert_refused(self, inspect(*text), "--output", code=2)
        assert_refused(self, inspect("-o", "x.html"), "-p", code=2)
        assert_refused(self, inspect(*text, "-o", "x.html", "--policy", "cake,snapkv,h2o"), "two", code=2)
        assert_refused(self, inspect(*text, "-o", "x.html", "--policy", "nosuch"), "nosuch", code=2)
        assert_refused(self, inspect(*text, "-o", self.folder), "folder")
        assert_refused(self, inspect(*text, "-o", self.folder / "none" / "x.html"), "none/x.html")
        assert_refused(self, inspect("-p", "", "-o", "x.html"), "empty")
        self.assertIn(b"<!DOCTYPE html>", inspect(*text, "-n", 0, "-o", "-").stdout)


if __name__ == "__main__":
    unittest.main()
