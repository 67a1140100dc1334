#!/usr/bin/env python3
"""Tests with fewer threads than requested: OpenMP decides on their number, and only the speed may depend on it."""

import json
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, InFolder, command, environment  # noqa: E402

THREADS = 4
DOCUMENT = BUNDLED.parent / "document.txt"
TEAMS = [{"OMP_THREAD_LIMIT": str(n)} for n in range(1, THREADS + 1)] + [{"OMP_DYNAMIC": "true"}]


def cake(*arguments, **variables):
    without = {name: value for name, value in environment().items() if not name.startswith("OMP_")}
    subprocess.run(command(*arguments, "-m", BUNDLED, "-t", THREADS, "-f", DOCUMENT, "--max-prompt", 3000, "--kv-budget", 128),
                   env={**without, **variables}, check=True, capture_output=True, timeout=300)


class Teams(InFolder):
    def session(self, *arguments, **variables):
        """Returns a saved session: the tokens kept in every layer, their K, V and scores, and the logits."""
        file = self.folder / "session"
        cake("run", "--temp", 0, "--ignore-eos", "-n", 30, "--save-session", file, *arguments, **variables)
        return file.read_bytes()

    def test_what_is_kept_and_the_logits_are_the_same_for_every_team_size(self):
        for policy in ("cake", "h2o"):
            whole = self.session("--policy", policy)
            for team in TEAMS:
                with self.subTest(policy=policy, team=team):
                    self.assertEqual(self.session("--policy", policy, **team), whole)

    def inspected(self, **variables):
        file = self.folder / "report.html"
        cake("inspect", "-n", 5, "-o", file, **variables)
        page = file.read_text(encoding="utf-8")
        data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
        self.assertTrue(all(layer["shift"] > 0 for layer in data["policies"][0]["layers"]))
        return data

    def test_inspect_prints_the_same_statistics(self):
        whole = self.inspected()
        for team in TEAMS:
            with self.subTest(team=team):
                self.assertEqual(self.inspected(**team), whole)


if __name__ == "__main__":
    unittest.main()
