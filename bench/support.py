"""What the scripts behind docs/results.md share: the random model they measure on, and a text for it."""

import os
import pathlib
import random
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPE = "--embd 896 --heads 14 --heads-kv 2 --head-dim 64 --ff 4864 --vocab 32000 --ctx 131072 --type q4_0".split()


MIB = 1 << 20


def accounted(report):
    """What the --json of a run says was held at the peaks, in bytes."""
    return report["kv"]["bytes_peak"] + report["hidden_bytes_peak"] + report["compute_bytes_peak"]


def make_model(layers):
    """A model of random weights in Q4_0, of the shape of a 0.5B model."""
    path = ROOT / "build" / f"random-{layers}x896-q4_0.gguf"
    if not path.exists():
        subprocess.run(
            [ROOT / "tools" / "make_model.py", "--out", f"{path}.new", "--layers", str(layers), *SHAPE], check=True)
        os.rename(f"{path}.new", path)
    return path


def make_text(tokens):
    """More than enough words for so many tokens; the prompt is to be cut to the number."""
    path = ROOT / "build" / f"random-text-{tokens}.txt"
    words = ["".join(random.Random(i).choices("etaoinshrdlucm", k=2 + i % 7)) for i in range(4000)]
    path.write_text(" ".join(random.Random(1).choices(words, k=tokens)))
    return path
