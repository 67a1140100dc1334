"""Shared by the scripts that make docs/results.md: random models, a text for them, and tables of `cake eval`."""

import csv
import io
import os
import pathlib
import random
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# name: (default number of layers, other flags for tools/make_model.py)
SHAPES = {
    "0.5B": (24, "--embd 896 --heads 14 --heads-kv 2 --head-dim 64 --ff 4864 --vocab 32000 --ctx 131072 --type q4_0"),
    "1B": (16, "--embd 2048 --heads 32 --heads-kv 8 --head-dim 64 --ff 8192 --vocab 32000 --ctx 131072 --type q4_0"),
}

MIB = 1 << 20


def accounted(report):
    """Sum of the memory peaks in the --json report of a run, in bytes."""
    return report["kv"]["bytes_peak"] + report["hidden_bytes_peak"] + report["compute_bytes_peak"]


def make_model_of(shape, layers=None):
    """Returns the path of a model with random weights in Q4_0, and makes the model if it is missing."""
    usual, flags = SHAPES[shape]
    path = ROOT / "build" / f"random-{shape}-{layers or usual}-layers-q4_0.gguf"
    if not path.exists():
        subprocess.run([ROOT / "tools" / "make_model.py", "--out", f"{path}.new", "--layers", str(layers or usual),
                        *flags.split()], check=True)
        os.rename(f"{path}.new", path)
    return path


def make_model(layers):
    return make_model_of("0.5B", layers)


def make_text(tokens):
    """Returns the path of a text of at least `tokens` tokens. The caller cuts the prompt to that number."""
    path = ROOT / "build" / f"random-text-{tokens}.txt"
    words = ["".join(random.Random(i).choices("etaoinshrdlucm", k=2 + i % 7)) for i in range(4000)]
    path.write_text(" ".join(random.Random(1).choices(words, k=tokens)))
    return path


def evaluate(build, *flags):
    """Prints a command of `cake eval` as a user would type it, and returns its rows."""
    command = ["eval", *flags]
    print(f"    ./dev cake {shlex.join(command)}\n", flush=True)
    result = subprocess.run([str(build / "cake"), *command, "-o", "csv"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if result.returncode != 0:
        sys.exit(f"cake eval {flags[0]} ended with exit code {result.returncode}")
    return [row for row in csv.DictReader(io.StringIO(result.stdout.decode())) if not row["depth"]]


def print_table(rows, figure, digits):
    """Prints a table of policies by budgets, with confidence intervals."""
    budgets = sorted({int(row["budget"]) for row in rows} - {0})
    print(f"| {figure} | " + " | ".join(map(str, budgets)) + " |")
    print("| --- |" + " ---: |" * len(budgets))
    for policy in dict.fromkeys(row["policy"] for row in rows):
        cells = []
        for budget in budgets:
            row = next(r for r in rows if r["policy"] == policy and int(r["budget"]) in (budget, 0))
            low, high = row[f"{figure}_low"], row[f"{figure}_high"]
            interval = f" ({float(low):.{digits}f}–{float(high):.{digits}f})" if low else ""
            cells.append(f"{float(row[figure]):.{digits}f}{interval}")
        print(f"| {policy} | " + " | ".join(cells) + " |")
    print(flush=True)
