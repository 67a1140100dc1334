#!/usr/bin/env python3
"""Draws a report on the training: losses and accuracy by tokens seen, and the retrieval of the exported model by length
and depth, as measured by `cake eval niah -o csv`.

usage: ./dev train report --niah FILE.csv [--log FILE] [--out FILE.svg]
"""

import argparse
import csv
import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

import text  # noqa: E402


def draw_log(axes, log):
    tokens = [entry["tokens"] / 1e6 for entry in log]
    prose = [(t, entry["prose_loss"]) for t, entry in zip(tokens, log) if entry["prose_loss"] > 0]
    axes.plot(tokens, [entry["answer_loss"] for entry in log], color="#0072B2", lw=1, label="loss, answers")
    axes.plot(*zip(*prose), color="#E69F00", lw=1, label="loss, prose")
    axes.set(xlabel="tokens seen, millions", ylabel="loss, nats a token", ylim=(0, None), xlim=(0, tokens[-1]))
    right = axes.twinx()
    right.plot(tokens, [entry["accuracy"] for entry in log], color="#009E73", lw=1, label="answers right in full")
    right.set(ylabel="share of answers right", ylim=(0, 1.02))
    begins = [(t, f"{entry['stage']} {entry['n']}") for t, entry, before in zip(tokens, log, [None, *log])
              if before is None or (entry["stage"], entry["n"]) != (before["stage"], before["n"])]
    for t, name in begins:
        axes.axvline(t, color="#bbbbbb", lw=0.6)
        axes.text(t, axes.get_ylim()[1] * 0.99, f" {name}", rotation=90, va="top", ha="left", fontsize=6, color="#555555")
    lines = axes.get_lines()[:2] + right.get_lines()
    axes.legend(lines, [line.get_label() for line in lines], loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3,
                frameon=False, fontsize=8)


def draw_retrieval(axes, rows):
    lengths = sorted({int(row["length"]) for row in rows})
    depths = sorted({float(row["depth"]) for row in rows})
    scores = [[next(float(r["score"]) for r in rows if int(r["length"]) == n and float(r["depth"]) == d) for n in lengths]
              for d in depths]
    axes.imshow(scores, vmin=0, vmax=1, cmap="Greens", alpha=0.55, aspect="auto")
    for y, line in enumerate(scores):
        for x, score in enumerate(line):
            axes.text(x, y, f"{score:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(lengths)), lengths)
    axes.set_yticks(range(len(depths)), [f"{d:.0%}" for d in depths])
    axes.set(xlabel="length of the text, tokens", ylabel="depth of the fact",
             title=f"one fact, full cache, {rows[0]['samples']} samples a cell")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--niah", type=pathlib.Path, required=True)
    parser.add_argument("--log", type=pathlib.Path, default=text.ROOT / "build/train/log.json")
    parser.add_argument("--out", type=pathlib.Path, default=text.ROOT / "models/training.svg")
    options = parser.parse_args()
    with options.niah.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["depth"] and row["policy"] == "full"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), gridspec_kw={"width_ratios": [3, 2]},
                                         layout="constrained")
    draw_log(left, json.loads(options.log.read_text()))
    draw_retrieval(right, rows)
    figure.savefig(options.out)


if __name__ == "__main__":
    main()
