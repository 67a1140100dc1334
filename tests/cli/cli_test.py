#!/usr/bin/env python3
"""Tests of the command line: effects of flags, JSON output, errors and exit codes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from support.cake_process import BUNDLED, MODELS, WORDS, assert_refused, cake, command, environment, report, run  # noqa: E402

N_LAYER, N_HEAD_KV, HEAD_DIM, TRAINED = 4, 2, 32, 2048
SLOT_BYTES = 2 * N_HEAD_KV * HEAD_DIM * 2  # K and V of one token in one layer, in f16


class Text(unittest.TestCase):
    def test_the_same_text_however_the_prompt_comes(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(WORDS.encode())
            file.flush()
            results = [run("-p", WORDS, "-n", 8), run("-f", file.name, "-n", 8),
                       run("-f", "-", "-n", 8, stdin=WORDS.encode()), run("-", "-n", 8, stdin=WORDS.encode())]
        for result in results:
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, results[0].stdout)
            self.assertEqual(result.stderr, b"")
        self.assertGreater(len(results[0].stdout), 8)

    def test_invalid_utf8_is_kept_as_bytes(self):
        prompt = b"caf\xe9 \xff\xfe\x80 \xf0\x9f"
        with tempfile.NamedTemporaryFile() as file:
            file.write(prompt)
            file.flush()
            result = report("-f", file.name, "-n", 2)
        # The prompt is <s> and at least one token for each byte outside ASCII.
        self.assertGreaterEqual(result["prompt_tokens"], 1 + sum(byte > 127 for byte in prompt))

    def test_json_stays_valid_when_the_text_is_not_utf8(self):
        result = run("-p", "the", "-n", 200, "--temp", 5, "--seed", 1, "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout)["generated_tokens"], 200)

    def test_a_seed_repeats_and_another_differs(self):
        def draw(seed):
            return report("-p", "the", "-n", 30, "--temp", 1, "--seed", seed)["tokens"]

        self.assertEqual(draw(5), draw(5))
        self.assertNotEqual(draw(5), draw(6))

    def test_the_seed_minus_one_is_a_different_one_each_time(self):
        draws = {tuple(report("-p", "the", "-n", 30, "--temp", 2, "--seed", -1)["tokens"]) for _ in range(3)}
        self.assertGreater(len(draws), 1)

    def test_threads_change_nothing(self):
        self.assertEqual(report("-p", WORDS, "-n", 8)["tokens"], report("-p", WORDS, "-n", 8, "-t", 2)["tokens"])

    def test_weights_as_they_lie_in_the_file_give_the_same_text(self):
        repacked, mapped = (report("-p", WORDS, "-n", 8, *flags, model="q4_0") for flags in ((), ("--no-repack",)))
        self.assertEqual(repacked["tokens"][:4], mapped["tokens"][:4])


class Numbers(unittest.TestCase):
    def test_fields(self):
        result = report("-p", WORDS, "-n", 4)
        self.assertEqual(set(result), {
            "model", "policy", "prompt_tokens", "generated_tokens", "finish_reason", "prefill_seconds",
            "prefill_tokens_per_second", "decode_tokens_per_second", "kv", "hidden_bytes_peak", "compute_bytes_peak",
            "layers", "tokens", "text"})
        self.assertEqual(set(result["kv"]), {"budget_tokens_per_layer", "bytes_budget", "bytes_layer", "bytes_peak",
                                             "bytes_now", "bytes_full_cache"})
        self.assertEqual([set(layer) for layer in result["layers"]],
                         [{"layer", "dispersion", "shift", "preference", "budget", "kept"}] * N_LAYER)
        self.assertEqual((result["generated_tokens"], len(result["tokens"])), (4, 4))
        self.assertEqual(result["finish_reason"], "length")

    def test_every_policy_stays_in_its_budget(self):
        for policy in ("cake", "snapkv", "pyramidkv", "streaming-llm"):
            for flags in ((), ("-ctk", "q8_0", "-ctv", "q8_0"), ("--evict-interval", 1), ("-b", 33)):
                with self.subTest(policy=policy, flags=flags):
                    result = report("-p", WORDS, "-n", 100, "--policy", policy, "--kv-budget", 96, *flags)
                    kv, n_prompt = result["kv"], result["prompt_tokens"]
                    self.assertGreater(n_prompt, 1000)
                    self.assertLessEqual(kv["bytes_now"], kv["bytes_budget"])
                    self.assertLessEqual(kv["bytes_peak"], kv["bytes_budget"] + kv["bytes_layer"])
                    self.assertLessEqual(sum(layer["kept"] for layer in result["layers"]), 96 * N_LAYER)
                    self.assertGreater(sum(layer["kept"] for layer in result["layers"]), 0.75 * 96 * N_LAYER)
                    if not flags:
                        self.assertEqual(kv["bytes_budget"], 96 * N_LAYER * SLOT_BYTES)
                        self.assertEqual(kv["bytes_layer"], n_prompt * SLOT_BYTES)

    def test_cake_gives_layers_what_their_preference_says(self):
        layers = report("-p", WORDS, "-n", 0, "--policy", "cake", "--kv-budget", 96)["layers"]
        by_preference = sorted(layers, key=lambda layer: layer["preference"])
        budgets = [layer["budget"] for layer in by_preference]
        self.assertEqual(budgets, sorted(budgets))
        self.assertGreater(len(set(budgets)), 1)
        for layer in layers:
            self.assertAlmostEqual(layer["preference"] / (layer["dispersion"] * layer["shift"]), 1, places=4)

    def test_full_keeps_everything(self):
        result = report("-p", WORDS, "-n", 5, "--policy", "full")
        self.assertEqual([layer["kept"] for layer in result["layers"]], [result["prompt_tokens"] + 4] * N_LAYER)

    def test_a_short_prompt_is_kept_whole_by_every_policy(self):
        whole = report("-p", "the rain in spain", "-n", 6, "--policy", "full")["tokens"]
        for policy in ("cake", "snapkv", "pyramidkv", "streaming-llm"):
            self.assertEqual(report("-p", "the rain in spain", "-n", 6, "--policy", policy)["tokens"], whole)

    def test_the_three_ways_to_state_a_budget_agree(self):
        n_prompt = report("-p", WORDS, "-n", 0)["prompt_tokens"]
        memory = 128 * N_LAYER * SLOT_BYTES
        for flags in (("--kv-budget", 128), ("--kv-memory", memory), ("--kv-memory", f"{memory // 1024}KiB"),
                      ("--kv-ratio", 128.5 / n_prompt)):
            with self.subTest(flags=flags):
                result = report("-p", WORDS, "-n", 0, *flags)
                self.assertEqual(result["kv"]["budget_tokens_per_layer"], 128)
                self.assertEqual(result["kv"]["bytes_budget"], memory)

    def test_scorer_and_allocator_combine(self):
        for scorer in ("cake", "snapkv", "streaming-llm", "random"):
            for allocator in ("uniform", "pyramid", "preference"):
                result = report("-p", WORDS, "-n", 2, "--scorer", scorer, "--allocator", allocator, "--kv-budget", 96)
                self.assertEqual(result["policy"], f"cake+ (scorer {scorer}, allocator {allocator})")
                short = report("-p", WORDS, "-n", 2, "--policy", f"{scorer}:{allocator}", "--kv-budget", 96)
                self.assertEqual((short["policy"], short["tokens"]), (f"{scorer}:{allocator}", result["tokens"]))

    def test_max_prompt_cuts_and_n_0_only_reads(self):
        result = report("-p", WORDS, "--max-prompt", 100, "-n", 0)
        self.assertEqual((result["prompt_tokens"], result["generated_tokens"], result["text"]), (100, 0, ""))

    def test_context_bounds_prompt_and_answer(self):
        result = report("-p", "the rain", "-c", 40, "-n", -1)
        self.assertEqual(result["prompt_tokens"] + result["generated_tokens"], 40)
        assert_refused(self, run("-p", WORDS, "-c", 40), "40")

    def test_beyond_the_trained_context_it_warns_and_goes_on(self):
        result = run("-p", WORDS * 3, "-n", 2, "--kv-budget", 64, "--json")
        self.assertEqual(result.returncode, 0)
        self.assertGreater(json.loads(result.stdout)["prompt_tokens"], TRAINED)
        self.assertRegex(result.stderr.decode(), r"\Acake: warning: [^\n]*2,048[^\n]*\n\Z")

    def test_info(self):
        result = cake("info", MODELS / "f32.gguf", "--json")
        info = json.loads(result.stdout)
        self.assertEqual((info["n_layer"], info["n_head_kv"], info["n_ctx_train"]), (N_LAYER, N_HEAD_KV, TRAINED))
        self.assertEqual(info["kv_bytes_per_token"], N_LAYER * SLOT_BYTES)
        self.assertIn("131,072 tokens", cake("info", "-m", MODELS / "f32.gguf").stdout.decode())

    def test_the_families_are_those_of_the_documentation(self):
        result = cake("info", "--families", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        families = json.loads(result.stdout)
        rows = [f"| `{f['architecture']}` | {f['models']} | {f['traits']} |" for f in families]
        page = (pathlib.Path(__file__).parents[2] / "docs/models.md").read_text()
        table = page[page.index("| `general.architecture` |"):].split("\n\n")[0].splitlines()[2:]
        self.assertEqual(table, rows, "docs/models.md has to have these rows:\n" + "\n".join(rows))
        text = cake("info", "--families").stdout.decode()
        for family in families:
            self.assertIn(f"{family['architecture']}\n  {family['models']}\n", text)

    def test_families_or_a_model(self):
        for arguments in ((), ("--families", MODELS / "f32.gguf")):
            result = cake("info", *arguments)
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(b"model", result.stderr)

    def test_states_of_recurrent_layers(self):
        info = json.loads(cake("info", MODELS / "qwen35.gguf", "--json").stdout)
        # A state is 3 x 256 numbers of the convolution and 4 heads of 32 x 32, in f32.
        self.assertEqual((info["n_recurrent_layers"], info["recurrent_bytes"]), (6, 6 * 4 * (3 * 256 + 4 * 32 * 32)))
        self.assertEqual(info["kv_bytes_per_token"], 2 * 2 * 2 * 64 * 2)
        result = cake("run", "-m", MODELS / "qwen35.gguf", "-p", WORDS, "-n", 2, "--kv-budget", 64, "--window", 8, "--json")
        layers = json.loads(result.stdout)["layers"]
        self.assertEqual([layer.get("recurrent", False) for layer in layers], [True, True, True, False] * 2)
        self.assertEqual([layer["kept"] > 0 for layer in layers], [False, False, False, True] * 2)


class Evaluation(unittest.TestCase):
    FLAGS = ("-m", MODELS / "f32.gguf", "-t", 1, "--policy", "full,cake", "--policy", "snapkv:preference", "--kv-budget", "48,96")

    def test_every_made_task_gives_a_row_for_each_setting(self):
        for task, n_rows in {"niah": 1, "needlebench": 4, "ruler": 6, "ledger": 1}.items():  # rows per setting, with the average
            depths = ("--depths", "0,50") if task == "niah" else ()
            result = cake("eval", task, *self.FLAGS, "--lengths", 900, *depths, "--samples", 1, "-o", "json")
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            rows = [row for row in json.loads(result.stdout)["rows"] if "depth" not in row]
            self.assertEqual(len(rows), 5 * n_rows)
            self.assertEqual({(row["policy"], row["budget"]) for row in rows},
                             {("full", 0), ("cake", 48), ("cake", 96), ("snapkv:preference", 48), ("snapkv:preference", 96)})
            for row in rows:
                low, high = row["score_interval"]
                self.assertTrue(0 <= low <= row["score"] <= high <= 1, row)

    def test_a_text_is_decoded_instead_of_read(self):
        flags = ("-m", BUNDLED, "-t", 1, "--lengths", 700, "--samples", 1, "--questions", 2, "--policy", "full,cake", "--kv-budget", 64,
                 "-o", "json")
        read, decoded = (json.loads(cake("eval", "ledger", *flags, *more).stdout)["rows"] for more in ((), ("--decode",)))
        self.assertEqual(read[0]["score"], decoded[0]["score"], "nothing is dropped of the full cache")
        self.assertEqual([row["samples"] for row in decoded], [2, 2])

    def test_answers_are_written_and_a_seed_repeats_them(self):
        def answers(seed):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "answers.jsonl"
                result = cake("eval", "niah", *self.FLAGS, "--lengths", 600, "--depths", 50, "--samples", 2, "--seed", seed,
                              "--answers", path, "--plot", pathlib.Path(folder) / "niah.svg")
                self.assertEqual((result.returncode, result.stderr), (0, b""))
                self.assertIn(b"</svg>", (pathlib.Path(folder) / "niah.svg").read_bytes())
                return [json.loads(line) for line in path.read_text().splitlines()]

        first = answers(1)
        self.assertEqual(len(first), 2 * 5)
        self.assertEqual(set(first[0]), {"sample", "text", "policy", "budget", "subtask", "length", "depth", "answers",
                                         "prediction", "score"})
        self.assertEqual([a["sample"] for a in first], [0] * 5 + [1] * 5)
        self.assertEqual(first, answers(1))
        self.assertNotEqual([a["answers"] for a in first], [a["answers"] for a in answers(2)])

    def test_fidelity_of_a_text(self):
        with tempfile.NamedTemporaryFile(suffix=".txt") as file:
            file.write((WORDS * 3).encode())
            file.flush()
            result = cake("eval", "fidelity", *self.FLAGS, "--data", file.name, "--lengths", 200, "--continuation", 20,
                          "--samples", 2, "-o", "csv")
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            header, *lines = result.stdout.decode().splitlines()
            self.assertTrue(header.startswith("policy,budget,subtask,length,depth,samples,kl,kl_low,kl_high,top1,"))
            self.assertEqual(len(lines), 4)
            assert_refused(self, cake("eval", "fidelity", *self.FLAGS, "--data", file.name, "--lengths", 10**6), "tokens")

    def test_the_files_of_the_benchmarks(self):
        shared = os.environ.get("CAKE_SHARED")
        if not shared:
            self.skipTest("CAKE_SHARED does not name a folder with data/ (longbench_v1, longeval, …)")
        data = pathlib.Path(shared) / "data"
        flags = ("-m", BUNDLED, "--policy", "full,cake", "--kv-budget", 128, "--samples", 1, "-o", "json")
        for task, folder, subtasks in (
                ("longbench", "longbench_v1", {"multi_news", "multifieldqa_zh", "passage_retrieval_zh", "average"}),
                ("longbench-v2", "longbench_v2", {"all", "hard", "short"}),
                ("longeval", "longeval", {f"{n}_lines" for n in (200, 400, 600, 900, 1350)}),
                ("kv-retrieval", "kv_retrieval", {f"kv-retrieval-{n}_keys" for n in (75, 140)}),
                ("ruler", "ruler", {"4096_niah_multikey_3"})):
            with self.subTest(task=task):
                result = cake("eval", task, *flags, "--data", data / folder)
                self.assertEqual(result.returncode, 0, result.stderr)
                rows = json.loads(result.stdout)["rows"]
                self.assertEqual({row["subtask"] for row in rows}, subtasks)
                self.assertEqual({row["policy"] for row in rows}, {"full", "cake"})
                self.assertTrue(all(0 <= row["score"] <= 1 for row in rows), rows)

    def test_subtasks_length_of_answers_and_kernels(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        answers = pathlib.Path(folder.name) / "answers"
        flags = ("--lengths", 600, "--samples", 1, "--policy", "full,snapkv,keydiff", "--kv-budget", 48, "-o", "json",
                 "--wording", "published")
        result = cake("eval", "ruler", "-m", BUNDLED, "-t", 1, *flags, "--subtask", "single,tracking", "--max-answer", 3,
                      "--pool-kernel", "0,9", "--answers", answers)
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)["rows"]
        self.assertEqual({row["subtask"] for row in rows}, {"single", "tracking", "average"})
        self.assertEqual({row["policy"] for row in rows}, {"full", "snapkv, published pooling", "snapkv, pooling 9", "keydiff"})
        longest = max(len(json.loads(line)["prediction"]) for line in answers.read_text().splitlines())
        self.assertLess(longest, 60)
        result = cake("eval", "ruler", "-m", BUNDLED, *flags, "--subtask", "singel")
        assert_refused(self, result, "singel", "multikey, multivalue, single, tracking")

    def test_a_value_that_is_named_twice_counts_once(self):
        result = cake("eval", "niah", *self.FLAGS, "--lengths", "600,600", "--depths", "50,50", "--kv-budget", "48",
                      "--samples", 1, "-o", "csv")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 1 + 5 * 2)

    def test_wrong_use(self):
        model = ("-m", MODELS / "f32.gguf")
        for arguments, word in {
            ("nosuch", *model): "longbench-v2",
            ("longeval", *model): "--data",
            ("fidelity", *model): "--data",
            ("niah", *model, "--policy", "caek"): "pyramidkv",
            ("niah", *model, "--kv-budget", "8"): "--window",
            ("niah", *model, "--kv-budget", "0"): "--kv-budget",
            ("niah", *model, "--depths", "101"): "--depths",
            ("niah", *model, "--lengths", "ten"): "--lengths",
            ("niah", *model, "--samples", "0"): "--samples",
            ("niah", *model, "-o", "xml"): "xml",
            ("ruler", *model, "--plot-kind", "map"): "lines",
            ("ruler", *model, "--depths", "50"): "--depths",
            ("niah", *model, "--data", "/none"): "--data",
            ("longeval", *model, "--data", "/none", "--filler", "repeated"): "--filler",
            ("niah", *model, "--blind", "--decode"): "--blind",
            ("niah",): "--model",
            (): "task",
        }.items():
            with self.subTest(arguments=arguments):
                assert_refused(self, cake("eval", *arguments), word, code=2)
        flags = (*self.FLAGS, "--samples", 1)
        assert_refused(self, cake("eval", "niah", *flags, "--lengths", 30), "too few")
        assert_refused(self, cake("eval", "niah", *flags, "--filler", "/tmp"), "is a folder")
        assert_refused(self, cake("eval", "niah", *flags, "--filler", "/none"), "/none")
        assert_refused(self, cake("eval", "longeval", *flags, "--data", "/none.jsonl"), "/none.jsonl")
        assert_refused(self, cake("eval", "niah", *flags, "--lengths", 600, "--answers", "/none/a"), "/none/a")

    def test_an_interrupt_gives_the_results_until_then(self):
        process = subprocess.Popen(command("eval", "niah", *self.FLAGS, "--samples", 10000, "--lengths", 600, "-o", "csv",
                                           "--depths", 50, "--answers", "/dev/stderr"),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
        while not process.stderr.readline().startswith(b"{"):  # a slow machine may report its progress first
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn(b"cake: stopped", errors)
        self.assertGreaterEqual(int(output.splitlines()[1].split(b",")[5]), 1)


class Bench(unittest.TestCase):
    FLAGS = ("-m", MODELS / "f32.gguf", "-t", 1, "-r", 2, "-p", "40,80", "-n", 5, "-d", "0,200", "--kv-budget", 64,
             "--policy", "cake,full")

    def bench(self, *arguments):
        result = cake("bench", *self.FLAGS, *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return result.stdout.decode()

    def test_a_row_for_each_policy_depth_and_test(self):
        rows = json.loads(self.bench("-o", "json"))
        self.assertEqual([(r["policy"], r["n_depth"], r["n_prompt"], r["n_gen"]) for r in rows],
                         [(policy, depth, *test) for policy in ("cake", "full") for depth in (0, 200)
                          for test in ((40, 0), (80, 0), (0, 5))])
        for row in rows:
            self.assertEqual(len(row["samples"]), 2)
            self.assertGreater(row["tokens_per_second"], 0)
            self.assertFalse(row["depth_made_up"])
            self.assertGreaterEqual(row["memory_bytes_peak"], row["kv_bytes_peak"])
            slots = 64 if row["policy"] == "cake" else row["n_depth"] + row["n_prompt"] + row["n_gen"]
            self.assertEqual(row["kv_budget"], slots)

    def test_other_formats_and_a_made_up_depth(self):
        table = self.bench("--made-up").splitlines()
        self.assertEqual(len(table), 4 + 12)
        self.assertEqual(sum("@ d200 (made up)" in line for line in table), 6)
        lines = self.bench("--made-up", "-o", "csv").splitlines()
        self.assertEqual(len(lines), 13)
        self.assertEqual({len(line.split(",")) for line in lines}, {14})

    def test_wrong_use(self):
        model = ("-m", MODELS / "f32.gguf")
        for flags, word in ((("-p", -1), "--n-prompt"), (("-r", 0), "--repetitions"), (("-o", "xml"), "--output"),
                            (("--policy", "none"), "none"), (("-d", "a"), "--n-depth"), ((), "--model")):
            with self.subTest(flags=flags):
                assert_refused(self, cake("bench", *(model if flags else ()), *flags), word, code=2)
        assert_refused(self, cake("bench", "-m", "/none"), "/none")
        assert_refused(self, cake("bench", *model, "--policy", "full", "-d", 1 << 28, "--made-up"), "memory")


class WrongUse(unittest.TestCase):
    def test_prompts(self):
        assert_refused(self, run("-p", ""), "the prompt is empty")
        assert_refused(self, run("-f", "/dev/null"), "the prompt is empty")
        assert_refused(self, run("-f", "-"), "the prompt is empty")
        assert_refused(self, run("-f", "/none/such"), "/none/such: No such file or directory")
        assert_refused(self, run("-f", "/tmp"), "is a folder")
        assert_refused(self, run(), "-p TEXT", code=2)
        assert_refused(self, run("-p", "a", "-"), "-p TEXT", code=2)
        assert_refused(self, run("a.txt"), "a.txt", code=2)
        assert_refused(self, run("-p", "a", "-f", "b"), code=2)

    def test_budgets(self):
        assert_refused(self, run("-p", "a", "--kv-budget", 0), "--kv-budget", code=2)
        assert_refused(self, run("-p", "a", "--kv-budget", -5), "--kv-budget", code=2)
        assert_refused(self, run("-p", "a", "--kv-budget", 31), "at least 32 tokens a layer")
        assert_refused(self, run("-p", "a", "--kv-budget", 31, "--policy", "streaming-llm"), "at least 32")
        assert_refused(self, run("-p", "a", "--kv-memory", "1KiB"), "1024 bytes", "at least 32 tokens a layer")
        assert_refused(self, run("-p", "a", "--kv-budget", 10**15))
        assert_refused(self, run("-p", "a", "--kv-budget", 10**9))
        assert_refused(self, run("-p", "a", "--kv-budget", 2**63 - 1))
        assert_refused(self, run("-p", "a", "--kv-budget", 2**70), code=2)
        assert_refused(self, run("-p", "a", "--kv-memory", "4000GiB"))
        assert_refused(self, run("-p", "a", "--policy", "full", "-c", 200_000_000))
        assert_refused(self, run("-p", "a", "--kv-ratio", 1.5), "--kv-ratio", code=2)
        assert_refused(self, run("-p", "a", "--kv-ratio", 0), "--kv-ratio", code=2)
        for size in ("", "much", "-1GiB", "1XB", "nan", "inf", "0", "1e30"):
            with self.subTest(size=size):
                assert_refused(self, run("-p", "a", "--kv-memory", size), "--kv-memory", code=2)
        assert_refused(self, run("-p", "a", "--kv-budget", 64, "--kv-memory", "1MiB"), code=2)

    def test_names(self):
        for flag in ("--policy", "--scorer", "--allocator"):
            assert_refused(self, run("-p", "a", flag, "best"), '"best"', "use one of", code=2)
        assert_refused(self, run("-p", "a", "--policy", "cake:best"), '"best"', "use one of", code=2)
        assert_refused(self, run("-p", "a", "-ctk", "q2_K"), '"q2_K"', "use one of", code=2)
        assert_refused(self, run("-p", "a", "--policy", "full", "--scorer", "cake"), "allocator", code=2)
        assert_refused(self, run("-p", "a", "--policy", "full", "--kv-budget", 64), "keeps everything", code=2)
        # The policy is refused before the model is loaded.
        assert_refused(self, cake("run", "-m", "/none", "-p", "a", "--policy", "best"), '"best"', code=2)

    def test_numbers(self):
        for flags in (("--threads", 0), ("--threads", -1), ("--threads", 100000), ("--threads", "two"), ("--batch-size", 0), ("--predict", -2), ("--ctx-size", -1),
                      ("--max-prompt", 0), ("--temp", -1), ("--temp", "nan"), ("--top-p", 2), ("--min-p", -0.5),
                      ("--top-k", -3), ("--seed", -2), ("--evict-interval", 0), ("--budget", 5), ("--window", "x")):
            with self.subTest(flags=flags):
                assert_refused(self, run("-p", "a", *flags), flags[0], code=2)
        for flags in (("--window", 0), ("--window", 10**8), ("--gamma", "nan"), ("--gamma", -1), ("--tau1", 0),
                      ("--tau2", "inf")):
            with self.subTest(flags=flags):
                assert_refused(self, run("-p", "a", *flags), flags[0].strip("-"), code=2)

    def test_commands(self):
        assert_refused(self, cake(), code=2)
        assert_refused(self, cake("walk"), "walk", code=2)
        assert_refused(self, cake("run", "-p", "a"), "--model", code=2)
        for arguments in (("--help",), ("run", "--help"), ("info", "--help"), ("--version",)):
            result = cake(*arguments)
            self.assertEqual((result.returncode, result.stderr), (0, b""))
            self.assertIn(b"cake", result.stdout)

    def test_the_last_of_a_repeated_flag_counts(self):
        self.assertEqual(report("-p", "the", "-n", 9, "-n", 3)["generated_tokens"], 3)


class Ends(unittest.TestCase):
    def start(self, *arguments, **options):
        return subprocess.Popen(command("run", "-m", MODELS / "f32.gguf", "-t", 1, "--temp", 0, "--ignore-eos", *arguments),
                                stderr=subprocess.PIPE, env=environment(), **options)

    def test_a_full_disk(self):
        with open("/dev/full", "wb") as full:
            for flags in ((), ("--json",)):
                result = run("-p", "the rain", "-n", 4, *flags, stdout=full)
                assert_refused(self, result, "standard output", "No space left")
            assert_refused(self, cake("info", MODELS / "f32.gguf", stdout=full), "No space left")

    def test_a_closed_pipe(self):
        reader, writer = os.pipe()
        os.close(reader)
        result = run("-p", "the rain", "-n", 4, stdout=writer)
        os.close(writer)
        assert_refused(self, result, "Broken pipe")

    def test_interrupt_while_generating_keeps_the_text(self):
        process = self.start("-p", "the rain", "-n", "100000000", "--kv-budget", "64", stdout=subprocess.PIPE)
        begin = process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, b""))
        self.assertEqual(len(begin), 20)
        self.assertTrue(rest.endswith(b"\n"))

    def test_interrupt_while_reading(self):
        process = self.start("-f", "-", "-n", "1", "--json", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write(b"the rain in spain " * 200_000)
        process.stdin.close()
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        # communicate() would flush the closed pipe.
        output, errors = process.stdout.read(), process.stderr.read()
        self.assertEqual(process.wait(60), 130)
        self.assertEqual(output, b"")
        self.assertRegex(errors.decode().splitlines()[-1], r"\Acake: stopped")
        process.stdout.close()
        process.stderr.close()


if __name__ == "__main__":
    unittest.main()
