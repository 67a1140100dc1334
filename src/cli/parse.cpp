#include "cli/parse.hpp"

#include <charconv>
#include <cmath>
#include <format>
#include <limits>

#include "cake/policy.hpp"

namespace cake::cli {

namespace {

constexpr const char* kGroup = "What is kept";

std::string list(const std::vector<Named>& entries) {
    std::string text;
    for (const auto& entry : entries) text += (text.empty() ? "" : ", ") + entry.name;
    return text;
}

}  // namespace

void ModelFlags::add_to(CLI::App& app) {
    app.add_option("-m,--model", path, "the model, a GGUF file")->type_name("FILE")->required();
    app.add_option("-t,--threads", options.threads, "threads (default: one for each core)")
        ->type_name("N")
        ->check(CLI::Range(1, 512));
    app.add_option("-b,--batch-size", options.n_batch, "tokens that the prompt is read in at a time")
        ->type_name("N")
        ->check(CLI::Range(1, 8192))
        ->capture_default_str();
    app.add_flag("--no-repack", no_repack, "compute on the weights as they lie in the file: less memory, slower");
}

EngineOptions ModelFlags::engine_options() const {
    EngineOptions result = options;
    result.repack = !no_repack;
    return result;
}

void KvFlags::add_to(CLI::App& app) {
    app.add_option("--policy", options.policy,
                   "who decides what is kept: " + list(policy_names()) + "; or SCORER:ALLOCATOR")
        ->type_name("NAME")
        ->capture_default_str()
        ->group(kGroup);
    auto* tokens =
        app.add_option("--kv-budget", tokens_per_layer, "tokens that a layer keeps on average (default: 1024)")
            ->type_name("TOKENS")
            ->check(CLI::Range(int64_t{1}, std::numeric_limits<int64_t>::max()))
            ->group(kGroup);
    auto* bytes = app.add_option("--kv-memory", memory, "the same as memory of all layers, like 500MiB or 2GiB")
                      ->type_name("SIZE")
                      ->group(kGroup);
    auto* share = app.add_option("--kv-ratio", ratio, "the same as a share of the prompt, like 0.05")
                      ->type_name("R")
                      ->check(number_in(1e-9, 1))
                      ->group(kGroup);
    tokens->excludes(bytes)->excludes(share);
    bytes->excludes(share);
    app.add_option("--scorer", options.scorer,
                   "which tokens of a layer stay, instead of the policy's: " + list(scorer_names()))
        ->type_name("NAME")
        ->group(kGroup);
    app.add_option("--allocator", options.allocator,
                   "how many each layer keeps, instead of the policy's: " + list(allocator_names()))
        ->type_name("NAME")
        ->group(kGroup);
    add_method_to(app);
}

void KvFlags::add_method_to(CLI::App& app) {
    app.add_option("--window", options.window, "the last tokens, which always stay and judge the others")
        ->type_name("W")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--gamma", options.gamma, "weight of the attention's variance (scorer cake)")
        ->type_name("X")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option(
           "--pool-kernel", options.pool_kernel,
           "neighbouring tokens that share their scores, an odd number (default: the scorer's own, cake 5, snapkv 7)")
        ->type_name("N")
        ->group(kGroup);
    app.add_option("--tau1", options.tau1, "the preference takes dispersion to the power 1/tau1")
        ->type_name("X")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--tau2", options.tau2, "and shift to the power 1/tau2")
        ->type_name("X")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option(
           "--evict-interval", options.evict_interval,
           "tokens generated between evictions (default: a sixteenth of the budget beside the window, at most 32)")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 30))
        ->group(kGroup);
    app.add_option("--cache-type-k", options.cache_type_k, "type of the keys, also -ctk: f16, bf16, f32, q8_0, q4_0")
        ->type_name("TYPE")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--cache-type-v", options.cache_type_v, "type of the values, also -ctv")
        ->type_name("TYPE")
        ->capture_default_str()
        ->group(kGroup);
}

SequenceOptions KvFlags::sequence_options() const {
    SequenceOptions result = options;
    if (memory) {
        const auto bytes = parse_size(*memory);
        if (!bytes) throw CLI::ValidationError("--kv-memory", bytes.error().message);
        result.budget = KvBytes{*bytes};
    } else if (ratio > 0) {
        result.budget = KvRatio{ratio};
    } else if (tokens_per_layer > 0) {
        result.budget = TokensPerLayer{tokens_per_layer};
    }
    if (auto valid = validate(result); !valid) throw CLI::ValidationError(valid.error().message);
    return result;
}

CLI::Validator number_in(double least, double most) {
    const auto check = [=](const std::string& text) {
        double number = 0;
        const bool good = CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
        return good ? std::string() : std::format("\"{}\" is not a number from {} to {}", text, least, most);
    };
    return {check, ""};
}

Result<uint64_t> parse_size(const std::string& text) {
    const auto wrong = [&] {
        return fail(std::format("\"{}\" is not a size; write it like 500MiB, 2GiB or a number of bytes", text));
    };
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || !(number > 0)) return wrong();
    std::string_view unit(end, text.data() + text.size());
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    double factor = 1;
    if (!unit.empty() && unit != "B") {
        constexpr std::string_view kUnits = "KMGT";
        const auto power = kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
        const auto rest = unit.substr(1);
        if (power == std::string_view::npos ||
            !(rest.empty() || rest == "B" || rest == "iB" || rest == "b" || rest == "ib"))
            return wrong();
        factor = std::pow(1024.0, static_cast<double>(power + 1));
    }
    const double bytes = number * factor;
    if (bytes >= 9e18) return fail(std::format("\"{}\" is more than any machine has", text));
    return static_cast<uint64_t>(bytes);
}

std::string format_bytes(uint64_t n_bytes) {
    constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    auto value = static_cast<double>(n_bytes);
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(kUnits)) {
        value /= 1024;
        unit++;
    }
    return unit == 0 ? std::format("{} bytes", n_bytes)
                     : std::format("{:.{}f} {}", value,
                                   value < 10    ? 2
                                   : value < 100 ? 1
                                                 : 0,
                                   kUnits[unit]);
}

std::string format_count(uint64_t n) {
    std::string digits = std::to_string(n);
    for (auto i = static_cast<ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) digits.insert(static_cast<size_t>(i), ",");
    return digits;
}

}  // namespace cake::cli
