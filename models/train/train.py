#!/usr/bin/env python3
"""Trains the bundled model from scratch and saves a checkpoint, which export.py converts to a GGUF file.

Training is data-parallel over gloo, with one single-threaded process per core. On a small machine this is several times
faster than one process with several threads. An interrupted training continues from its last checkpoint.

usage: ./dev train train [--hybrid] [--minutes M] [--processes N] [--out FOLDER]
"""

import argparse
import dataclasses
import json
import os
import pathlib
import random
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

import tasks
import text
import tokenizer as tokenizers
from model import HYBRID, Model, Shape

SEED = 20251
PEAK_RATE = 4e-3
ALL_KINDS = {"fact": 0.5, "values": 0.15, "chain": 0.12, "friend": 0.13, "frequent": 0.1}


@dataclasses.dataclass
class Stage:
    """A part of the training. It ends when the accuracy reaches `until`, or when its share of the time is used up."""
    name: str
    n: int                 # tokens per document
    batch: int             # tokens per step and process
    share: float           # max share of the whole time
    until: float           # accuracy of the answers at which the next stage begins
    level: tasks.Level | None = None   # None: repeated random tokens
    prose_share: float = 0.1           # share of documents that are only prose
    prose_weight: float = 0.1


STAGES = [
    Stage("repeat", 32, 512, 0.10, 0.85),
    Stage("repeat", 64, 512, 0.10, 0.90),
    Stage("copy", 256, 1024, 0.10, 0.90),
    Stage("recall", 256, 1024, 0.10, 0.90,
          tasks.Level(longest_key=1, letters=4, words=1.0, facts=(20, 60), bare=1.0, filler=0.4)),
    Stage("numbers", 256, 1024, 0.10, 0.90,
          tasks.Level(longest_key=1, longest_value=2, letters=5, words=0.4, facts=(20, 60), bare=1.0, filler=0.5)),
    Stage("sentences", 256, 2048, 0.15, 0.93,
          tasks.Level(longest_key=1, letters=5, words=0.4, facts=(10, 40), bare=0.5, filler=0.7)),
    Stage("names", 512, 4096, 0.15, 0.95,
          tasks.Level(letters=6, facts=(8, 50), bare=0.2, filler=0.8)),
    Stage("kinds", 1024, 4096, 0.20, 0.93, tasks.Level(facts=(4, 40), bare=0.1, kinds=ALL_KINDS), 0.1, 0.1),
    Stage("long", 2048, 4096, 0.20, 0.99, tasks.Level(facts=(3, 25), bare=0.05, kinds=ALL_KINDS), 0.15, 0.2),
    Stage("longest", 4096, 4096, 1.0, 1.01, tasks.Level(facts=(2, 15), bare=0.0, kinds=ALL_KINDS), 0.15, 0.3),
]


def repeat_document(rng, n, n_vocab):
    """Random tokens with repeated spans, in which the tokens after the first of a repetition can be predicted. Short
    documents repeat one block. Long ones repeat spans from anywhere before, since a few fixed distances could be
    learned by heart. Returns tokens and marks as task_document() does."""
    if n <= 64:
        period = rng.randint(4, n // 2)
        block = [rng.randrange(2, n_vocab) for _ in range(period)]
        tokens = (block * (n // period + 2))[:n + 1]
        return tokens, [-1] * (period + 1) + list(range(n - period))
    tokens, marks = [], []
    while len(tokens) <= n:
        length = rng.randint(4, 24)
        if len(tokens) < 32 or rng.random() < 0.3:
            tokens += [rng.randrange(2, n_vocab) for _ in range(length)]
            marks += [-1] * length
        else:
            begin = rng.randrange(len(tokens) - length)
            tokens += tokens[begin:begin + length]
            marks += [-1] + list(range(len(marks) + 1, len(marks) + length))
    return tokens[:n + 1], marks[:n + 1]


def task_document(rng, stage, tokenizer):
    """Returns tokens and a mark for each: the number of its answer, -1 if there is nothing to learn, -2 for prose."""
    if rng.random() < stage.prose_share:
        pieces = tasks.prose(rng, int(stage.n * 3.2))
    else:
        pieces = tasks.document(rng, stage.level, int(stage.n * 2.75))
    tokens, marks, n_answers = [0], [-1], 0
    for encoding, (_, kind) in zip(tokenizer.encode_batch([piece for piece, _ in pieces]), pieces):
        tokens += encoding.ids
        mark = {tasks.FACT: -1, tasks.PROSE: -2, tasks.ANSWER: n_answers}[kind]
        n_answers += kind == tasks.ANSWER
        marks += [mark] * len(encoding.ids)
        if len(tokens) > stage.n:
            break
    n = stage.n + 1
    return (tokens + [1] * n)[:n], (marks + [-1] * n)[:n]


def make_batch(stage, tokenizer, n_vocab, rng):
    tokens, marks = [], []
    for row in range(stage.batch // stage.n):
        if stage.level is None:
            t, m = repeat_document(rng, stage.n, n_vocab)
        else:
            t, m = task_document(rng, stage, tokenizer)
        tokens.append(t)
        marks.append([mark if mark < 0 else mark + row * 100_000 for mark in m])
    return torch.tensor(tokens), torch.tensor(marks)[:, 1:]


def losses(model, tokens, marks, prose_weight):
    """Returns the total loss, the losses of answers and of prose, the number of completely right answers, and that of
    all answers."""
    hidden = model.hidden(tokens[:, :-1])
    targets = tokens[:, 1:]

    def cross_entropy(chosen):
        logits = hidden[chosen] @ model.token_embd.weight.T
        return F.cross_entropy(logits, targets[chosen]), logits

    answers = marks >= 0
    prose = (marks == -2) & (torch.rand(marks.shape) < 0.5)
    zero = hidden.sum() * 0
    answer_loss, logits = cross_entropy(answers) if answers.any() else (zero, None)
    prose_loss = cross_entropy(prose)[0] if prose.any() else zero
    right = n = 0
    if logits is not None:
        hit = (logits.argmax(-1) == targets[answers]).float()
        _, group = marks[answers].unique(return_inverse=True)
        worst = torch.ones(int(group.max()) + 1).scatter_reduce(0, group, hit, "amin")
        right, n = worst.sum().item(), worst.numel()
    return answer_loss + prose_weight * prose_loss, answer_loss.item(), prose_loss.item(), right, n


class Training:
    def __init__(self, rank, options):
        self.rank, self.options, self.parent = rank, options, os.getppid()
        torch.manual_seed(SEED)
        self.shape = HYBRID if options.hybrid else Shape()
        self.model = Model(self.shape)
        path = options.out / "tokenizer.json"
        if rank == 0 and not path.exists():
            tokenizers.train_on_corpus(tasks.sample_text, self.shape.n_vocab, SEED).save(str(path))
        self.barrier()
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.01)
        self.stage = self.step_in_stage = self.step = self.n_tokens = 0
        self.seconds = 0.0
        self.stage_began = 0.0
        self.accuracy = 0.0
        self.log = []
        self.resume()

    def barrier(self):
        if self.options.processes > 1:
            dist.barrier()

    def checkpoint(self):
        return self.options.out / "checkpoint.pt"

    def resume(self):
        if not self.checkpoint().exists():
            return
        saved = torch.load(self.checkpoint(), weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for name in ("stage", "step_in_stage", "step", "n_tokens", "seconds", "stage_began", "accuracy", "log"):
            setattr(self, name, saved[name])

    def save(self):
        if self.rank != 0:
            return
        names = ("stage", "step_in_stage", "step", "n_tokens", "seconds", "stage_began", "accuracy", "log")
        state = {name: getattr(self, name) for name in names}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                  "shape": dataclasses.asdict(self.shape)}
        new = self.checkpoint().with_suffix(".new")
        torch.save(state, new)
        new.rename(self.checkpoint())
        (self.options.out / "log.json").write_text(json.dumps(self.log))

    def average(self, values):
        """Averages values over the processes."""
        if self.options.processes > 1:
            dist.all_reduce(values)
            values /= self.options.processes
        return values

    def set_rate(self):
        """Learning rate: warm-up, then constant, then a linear decay to a twentieth over the last 30 % of the time."""
        done = self.seconds / (self.options.minutes * 60)
        scale = min(1.0, (self.step + 1) / 100) * min(1.0, 0.05 + max(0.0, 1 - done) / 0.3)
        for group in self.optimizer.param_groups:
            group["lr"] = PEAK_RATE * scale

    def one_step(self, stage):
        rng = random.Random(f"{SEED} {self.stage} {self.step_in_stage} {self.rank}")
        torch.manual_seed(hash((self.step, self.rank)))
        tokens, marks = make_batch(stage, self.tokenizer, self.shape.n_vocab, rng)
        loss, answer, prose, right, n = losses(self.model, tokens, marks, stage.prose_weight)
        loss.backward()
        gradients = [p.grad for p in self.model.parameters()]
        flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([answer, prose, float(right), float(n)])])
        flat = self.average(flat)
        norm = flat[:-4].norm().item()
        flat[:-4] *= min(1.0, 1.0 / (norm + 1e-6))
        for g, part in zip(gradients, flat[:-4].split([g.numel() for g in gradients])):
            g.copy_(part.view_as(g))
        self.set_rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return flat[-4:].tolist()

    def run(self):
        last_save = begin = time.time()
        seconds_before = self.seconds
        sums = [0.0] * 4
        n_summed = n_prose = 0
        while True:
            clock = torch.tensor([time.time() - begin, time.time() - last_save])
            clock = self.average(clock)
            self.seconds = seconds_before + clock[0].item()
            if self.seconds >= self.options.minutes * 60:
                break
            stage = STAGES[self.stage]
            values = self.one_step(stage)
            sums = [s + v for s, v in zip(sums, values)]
            n_summed += 1
            n_prose += values[1] > 0
            self.step += 1
            self.step_in_stage += 1
            self.n_tokens += stage.batch * self.options.processes
            if self.step % 50 == 0:
                self.accuracy = sums[2] / max(sums[3], 1)
                entry = {"step": self.step, "stage": stage.name, "n": stage.n, "seconds": round(self.seconds, 1), "tokens": self.n_tokens,
                         "answer_loss": sums[0] / n_summed, "prose_loss": sums[1] / max(n_prose, 1), "accuracy": self.accuracy}
                self.log.append(entry)
                if self.rank == 0:
                    print(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in entry.items()), flush=True)
                sums, n_summed, n_prose = [0.0] * 4, 0, 0
                late = self.seconds - self.stage_began > stage.share * self.options.minutes * 60
                if (self.accuracy >= stage.until or late) and self.stage + 1 < len(STAGES):
                    self.stage, self.step_in_stage, self.stage_began = self.stage + 1, 0, self.seconds
                    self.save()
            if os.getppid() != self.parent:
                raise SystemExit("the process that started the training is gone")
            if clock[1].item() > 120:
                self.save()
                last_save = time.time()
        self.save()


def work(rank, options):
    torch.set_num_threads(1)
    if options.processes > 1:
        dist.init_process_group("gloo", init_method=f"file://{options.out.resolve()}/rendezvous", rank=rank,
                                world_size=options.processes)
    Training(rank, options).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=110, help="of training in all, broken-off parts included")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--hybrid", action="store_true", help="a model in which one layer of four has attention")
    parser.add_argument("--out", type=pathlib.Path, help="default: build/train, or build/train-hybrid")
    options = parser.parse_args()
    options.out = options.out or text.ROOT / "build" / ("train-hybrid" if options.hybrid else "train")
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "rendezvous").unlink(missing_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.processes == 1:
        work(0, options)
    else:
        mp.spawn(work, args=(options,), nprocs=options.processes)


if __name__ == "__main__":
    main()
