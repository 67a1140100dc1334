#include <fmt/format.h>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include <random>
#include <utility>

#include "cake/made_up.hpp"
#include "cake/policy.hpp"
#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/progress.hpp"

namespace cake::cli {

namespace {

using Json = nlohmann::ordered_json;

struct BenchFlags {
    ModelFlags model;
    KvFlags kv;
    std::vector<std::string> policies = {kDefaultPolicy};
    std::vector<SequenceOptions> options;  // one for each policy
    std::vector<int64_t> n_prompt = {512};
    std::vector<int64_t> n_gen = {128};
    std::vector<int64_t> n_depth = {0};
    int32_t repetitions = 5;
    bool made_up = false;
    std::string format = "md";
};

/// One row of the results: `n_prompt` tokens prefilled or `n_gen` tokens generated after a text of `depth` tokens.
struct Case {
    const SequenceOptions& options;
    int64_t n_prompt = 0;
    int64_t n_gen = 0;
    int64_t depth = 0;

    std::string name(bool made_up) const {
        auto text = n_prompt > 0 ? fmt::format("pp{}", n_prompt) : fmt::format("tg{}", n_gen);
        if (depth > 0) text += fmt::format(" @ d{}{}", depth, made_up ? " (made up)" : "");
        return text;
    }
};

struct Measured {
    std::vector<double> seconds;  // [repetitions]
    MemoryReport memory;          // memory of the last repetition

    /// Tokens per second of each repetition, if a test has `n` tokens.
    std::vector<double> rates(int64_t n) const {
        std::vector<double> result;
        for (const double s : seconds) result.push_back(static_cast<double>(n) / std::max(s, 1e-9));
        return result;
    }
};

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double x : values) sum += x;
    return sum / static_cast<double>(values.size());
}

double deviation(const std::vector<double>& values) {
    const double middle = mean(values);
    double sum = 0;
    for (const double x : values) sum += (x - middle) * (x - middle);
    return values.size() > 1 ? std::sqrt(sum / static_cast<double>(values.size() - 1)) : 0.0;
}

class Bench {
  public:
    explicit Bench(const BenchFlags& flags) : flags_(flags) {}

    int execute() {
        catch_interrupts();
        auto done = run();
        if (done) return kDone;
        complain(interrupted() ? "stopped" : done.error().message);
        return interrupted() ? kInterrupted : kFailed;
    }

  private:
    Result<void> run() {
        auto engine = flags_.model.load();
        if (!engine) return std::unexpected(engine.error());
        engine_ = std::make_unique<Engine>(std::move(*engine));
        for (const auto& options : flags_.options) {
            for (const int64_t depth : flags_.n_depth) {
                for (const int64_t n : flags_.n_prompt)
                    if (auto row = measure({.options = options, .n_prompt = n, .depth = depth}); !row) return row;
                for (const int64_t n : flags_.n_gen)
                    if (auto row = measure({.options = options, .n_gen = n, .depth = depth}); !row) return row;
            }
        }
        return flags_.format == "json" ? write_output(rows_.dump(2) + "\n") : Result<void>();
    }

    Result<void> measure(const Case& of) {
        if (of.n_prompt + of.n_gen == 0) return {};
        if (auto warm = warm_up(of); !warm) return warm;
        Measured measured;
        ProgressBar bar(fmt::format("{} {}", of.options.policy, of.name(flags_.made_up)));
        for (int32_t i = 0; i < flags_.repetitions; i++) {
            bar.update_count(i, flags_.repetitions);
            if (auto done = repeat(of, measured); !done) return done;
        }
        bar.clear();
        if (!std::exchange(begun_, true))
            if (auto begun = begin(); !begun) return begun;
        return write(of, measured);
    }

    /// A first run that is not measured, as in llama-bench, because the first access to memory is slower.
    Result<void> warm_up(const Case& of) const {
        Measured ignored;
        const SequenceOptions everything{.policy = kFullPolicy};  // the budget may be too small for such a short text
        return repeat({.options = everything,
                       .n_prompt = std::min<int64_t>(of.n_prompt, flags_.model.options.n_batch),
                       .n_gen = std::min<int64_t>(of.n_gen, 1)},
                      ignored);
    }

    /// One repetition: fills an empty sequence to the depth, then measures the test.
    Result<void> repeat(const Case& of, Measured& measured) const {
        auto options = of.options;
        options.max_tokens = std::max<int64_t>(of.depth + of.n_prompt + of.n_gen, 1);
        auto sequence = engine_->sequence(options);
        if (!sequence) return std::unexpected(sequence.error());
        auto token = [&, random = std::mt19937(1)] mutable {
            return static_cast<Token>(random() % static_cast<uint32_t>(engine_->info().n_vocab));
        };
        const auto tokens = [&](int64_t n) {
            std::vector<Token> result(static_cast<size_t>(n));
            std::ranges::generate(result, std::ref(token));
            return result;
        };
        const AppendOptions stoppable{.progress = [](int64_t, int64_t) { return !interrupted(); }};
        if (of.depth > 0) {
            auto there = flags_.made_up ? make_up(*sequence, of.depth) : sequence->append(tokens(of.depth), stoppable);
            if (!there) return there;
        }
        const auto prompt = tokens(of.n_prompt);
        const auto begin = std::chrono::steady_clock::now();
        if (of.n_prompt > 0)
            if (auto read = sequence->append(prompt, stoppable); !read) return read;
        for (int64_t i = 0; i < of.n_gen; i++) {
            if (interrupted()) return fail(Error::Code::cancelled, "cancelled");
            if (auto decoded = sequence->decode(token()); !decoded) return decoded;
        }
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
        measured.seconds.push_back(elapsed.count());
        measured.memory = sequence->memory();
        return {};
    }

    Result<void> begin() const {
        const auto& m = engine_->info();
        if (flags_.format == "csv") {
            return write_output(
                "model,threads,policy,kv_budget,cache_type_k,cache_type_v,n_prompt,n_gen,n_depth,depth_made_up,"
                "tokens_per_second,stddev,kv_bytes_peak,memory_bytes_peak\n");
        }
        if (flags_.format == "json") return {};
        return write_output(
            fmt::format("{}: {} parameters, {} ({})\n\n"
                        "| policy | tokens a layer | K/V | threads | test | tokens per second |\n"
                        "| --- | ---: | --- | ---: | --- | ---: |\n",
                        printable(m.name), format_count(m.n_params), format_bytes(m.weight_bytes), m.weight_types));
    }

    Result<void> write(const Case& of, const Measured& measured) {
        const auto rates = measured.rates(of.n_prompt + of.n_gen);
        const auto& memory = measured.memory;
        const auto types = of.options.cache_type_k == of.options.cache_type_v
                               ? of.options.cache_type_k
                               : of.options.cache_type_k + "/" + of.options.cache_type_v;
        const uint64_t all = memory.kv_bytes_peak + memory.hidden_bytes_peak + memory.compute_bytes_peak;
        const bool made_up = flags_.made_up && of.depth > 0;
        if (flags_.format == "md") {
            return write_output(fmt::format("| {} | {} | {} | {} | {} | {:.2f} ± {:.2f} |\n", of.options.policy,
                                            format_count(static_cast<uint64_t>(memory.budget_tokens_per_layer)), types,
                                            n_threads(), of.name(flags_.made_up), mean(rates), deviation(rates)));
        }
        if (flags_.format == "csv") {
            return write_output(fmt::format(
                "\"{}\",{},{},{},{},{},{},{},{},{},{:.3f},{:.3f},{},{}\n", printable(engine_->info().path), n_threads(),
                of.options.policy, memory.budget_tokens_per_layer, of.options.cache_type_k, of.options.cache_type_v,
                of.n_prompt, of.n_gen, of.depth, made_up, mean(rates), deviation(rates), memory.kv_bytes_peak, all));
        }
        rows_.push_back({{"model", engine_->info().path},
                         {"threads", n_threads()},
                         {"policy", of.options.policy},
                         {"kv_budget", memory.budget_tokens_per_layer},
                         {"cache_type_k", of.options.cache_type_k},
                         {"cache_type_v", of.options.cache_type_v},
                         {"n_prompt", of.n_prompt},
                         {"n_gen", of.n_gen},
                         {"n_depth", of.depth},
                         {"depth_made_up", made_up},
                         {"tokens_per_second", mean(rates)},
                         {"stddev", deviation(rates)},
                         {"samples", rates},
                         {"kv_bytes_peak", memory.kv_bytes_peak},
                         {"memory_bytes_peak", all}});
        return {};
    }

    int32_t n_threads() const { return engine_->threads(); }

    const BenchFlags& flags_;
    std::unique_ptr<Engine> engine_;
    Json rows_ = Json::array();
    bool begun_ = false;  // true after the header, written before the first result so that a failure writes nothing
};

void add_list(CLI::App& app, const char* flags, std::vector<int64_t>& values, const char* help) {
    app.add_option(flags, values, help)
        ->delimiter(',')
        ->take_all()
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->type_name("N")
        ->capture_default_str();
}

}  // namespace

void add_bench(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<BenchFlags>();
    auto* bench = app.add_subcommand("bench", "measure speed in tokens per second, like llama-bench");
    flags->model.add_to(*bench);
    add_list(*bench, "-p,--n-prompt", flags->n_prompt,
             "prompt tokens to read, or a list such as 512,2048; 0: no prompt test");
    add_list(*bench, "-n,--n-gen", flags->n_gen, "tokens to generate, or a list such as 64,128; 0: no generation test");
    add_list(*bench, "-d,--n-depth", flags->n_depth,
             "tokens to read before each test, not timed; or a list such as 0,8192");
    bench->add_flag(
        "--made-up", flags->made_up,
        "fill the cache to the depth with random keys and values instead of reading tokens, which saves time");
    bench->add_option("-r,--repetitions", flags->repetitions, "how often to run each test")
        ->type_name("N")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    bench->add_option("-o,--output", flags->format, "output format")
        ->check(CLI::IsMember({"md", "json", "csv"}))
        ->capture_default_str();
    flags->kv.add_budget_to(*bench);
    flags->kv.add_method_to(*bench);
    bench->add_option("--policy", flags->policies, "policy, or a list such as cake,full")
        ->delimiter(',')
        ->take_all()
        ->type_name("NAME")
        ->capture_default_str();
    bench->callback([flags, bench, &action] {
        flags->options = flags->kv.options_of(flags->policies);
        warn_of_unread_flags(*bench, flags->options);
        action = [flags] { return Bench(*flags).execute(); };
    });
}

}  // namespace cake::cli
