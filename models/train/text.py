#!/usr/bin/env python3
"""Words and prose for the training, from the Debian packages wamerican-small and bible-kjv (King James, public domain).
Nothing is downloaded.

usage: ./dev train text > held-out.txt    the prose that is not trained on, to measure fidelity on
"""

import functools
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Books that are not used in training.
HELD_OUT_BOOKS = ("Ruth", "Est", "Jonah", "Mark")


@functools.cache
def evaluation_words():
    """Returns the words from which `cake eval` builds its keys."""
    return frozenset(re.findall(r'"([a-z]+)"', (ROOT / "src/eval/words.cpp").read_text()))


@functools.cache
def words():
    """Returns English words of 3 to 8 letters, without those of the evaluation."""
    lines = pathlib.Path("/usr/share/dict/words").read_text().split()
    return sorted(w for w in lines if re.fullmatch("[a-z]{3,8}", w) and w not in evaluation_words())


@functools.cache
def verses():
    """Returns (training, held out), two lists of verses in the order of the book."""
    out = subprocess.run(["bible", "-f", "-l", "100000"], input="Gen1:1-Rev22:21\n", capture_output=True, text=True,
                         check=True).stdout
    training, held_out = [], []
    for line in out.splitlines():
        match = re.match(r"(\d?[A-Z][A-Za-z]*?)\d+:\d+ (.+)", line)
        if match:
            (held_out if match[1] in HELD_OUT_BOOKS else training).append(match[2])
    if len(training) < 28_000 or len(held_out) < 900:
        raise SystemExit(f"the package bible-kjv gave {len(training)} and {len(held_out)} verses: not what was expected")
    return training, held_out


if __name__ == "__main__":
    print("\n".join(verses()[1]))
