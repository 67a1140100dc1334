"""Runs `cake bench` and `llama-bench` alternately on the same file, and prints rows of medians and ratios."""

import json
import os
import statistics
import subprocess
import sys

from support import MIB

TABLE_HEAD = "| | llama.cpp | cake | ratio | ratios of the rounds |\n| --- | ---: | ---: | ---: | --- |"


def run(command):
    """Runs a command and returns its parsed output and its peak resident memory in bytes."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))} failed: {errors.decode()[-500:]}")
    return json.loads(output), usage.ru_maxrss * 1024


class Comparison:
    """Compares the two programs on one model."""

    def __init__(self, build, model, threads):
        common = ["-m", model, "-t", threads, "-r", 1, "-o", "json"]
        self.ours = [build / "cake", "bench", *common]
        self.theirs = ["llama-bench", *common, "-fa", 1]

    def figures(self, command, flags, memory):
        """Returns [tokens per second], with `memory` followed by the MiB used above a run with 16 tokens."""
        report, peak = run([*command, *flags.split()])
        speed = report[0].get("tokens_per_second") or report[0]["avg_ts"]
        if not memory:
            return [speed]
        length = flags.split()[flags.split().index("-p") + 1]
        return [speed, (peak - run([*command, *flags.replace(length, "16").split()])[1]) / MIB]

    def round(self, theirs, ours, memory=False):
        """Runs `llama-bench` with the flags `theirs`, and `cake bench` with each of the flags in `ours`. For each of
        the latter, returns the pairs (theirs, ours) of all figures."""
        figures = self.figures(self.theirs, theirs, memory)
        return [list(zip(figures, self.figures(self.ours, flags, memory))) for flags in ours]


def table_row(name, pairs):
    ratios = sorted(ours / theirs for theirs, ours in pairs)
    theirs, ours = (statistics.median(values) for values in zip(*pairs))
    return (f"| {name} | {theirs:.1f} | {ours:.1f} | {statistics.median(ratios):.2f} "
            f"| {' '.join(f'{ratio:.2f}' for ratio in ratios)} |")
