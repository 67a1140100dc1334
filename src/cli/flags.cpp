#include "cli/flags.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <ranges>
#include <variant>

#include "cake/policy.hpp"
#include "cli/device_flags.hpp"
#include "cli/input.hpp"
#include "cli/model_path.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "text/sampling_fields.hpp"

namespace cake::cli {

namespace {

constexpr const char* kGroup = "K/V cache and eviction";

std::string list(const std::vector<std::string>& names) {
    return fmt::format("{}", fmt::join(names, ", "));
}

std::string list(const std::vector<Named>& entries) {
    std::vector<std::string> names;
    for (const auto& entry : entries) names.push_back(entry.name);
    return list(names);
}

/// Names of the members of SequenceOptions that at least one policy reads.
std::vector<std::string> options_of_all_methods() {
    std::vector<std::string> all;
    for (const auto& scorer : scorer_names())
        for (const auto& allocator : allocator_names())
            all.append_range(options_read({.policy = scorer.name + ":" + allocator.name}));
    return all;
}

}  // namespace

void ModelFlags::add_to(CLI::App& app) {
    app.add_option("-m,--model", path, "the model: a GGUF file, or a name that ./dev models fetches")
        ->type_name("FILE|NAME")
        ->required();
    app.add_option("-t,--threads", options.threads,
                   "compute threads (default: one for each core that the program may use)")
        ->type_name("N")
        ->check(CLI::Range(1, 512));
    app.add_option("-b,--batch-size", options.n_batch, "prompt tokens that are computed at a time")
        ->type_name("N")
        ->check(CLI::Range(1, 8192))
        ->capture_default_str();
    add_devices(app, options.devices);
    app.add_flag("--ggml-attention", options.ggml_attention,
                 "compute attention with ggml instead of our own kernels, for comparison");
    app.add_flag("--no-repack", no_repack, "compute with the weights as they are in the file: less memory, slower");
}

EngineOptions ModelFlags::engine_options() const {
    EngineOptions result = options;
    result.repack = !no_repack;
    return result;
}

Result<Engine> ModelFlags::load() const {
    auto engine = find_model(path).and_then([&](const auto& file) { return Engine::load(file, engine_options()); });
    if (engine && !engine->info().devices.empty())
        complain(text_of(engine->info().devices) +
                 (options.devices == DeviceOptions() ? " (--device none: all on the CPU)" : ""));
    return engine;
}

void KvFlags::add_to(CLI::App& app) {
    app.add_option("--policy", options.policy, "eviction policy: " + list(policy_names()) + "; or SCORER:ALLOCATOR")
        ->type_name("NAME")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--scorer", options.scorer,
                   "how tokens are scored, instead of the policy's scorer: " + list(scorer_names()))
        ->type_name("NAME")
        ->group(kGroup);
    app.add_option(
           "--allocator", options.allocator,
           "how the budget is shared among layers, instead of the policy's allocator: " + list(allocator_names()))
        ->type_name("NAME")
        ->group(kGroup);
    add_budget_to(app);
    add_method_to(app);
}

void KvFlags::add_budget_to(CLI::App& app) {
    auto* tokens =
        app.add_option("--kv-budget", tokens_per_layer, "tokens that a layer keeps on average (default: 1024)")
            ->type_name("TOKENS")
            ->check(CLI::Range(int64_t{1}, std::numeric_limits<int64_t>::max()))
            ->group(kGroup);
    auto* bytes =
        app.add_option("--kv-memory", memory, "the budget as memory for all layers together, such as 500MiB or 2GiB")
            ->type_name("SIZE")
            ->group(kGroup);
    auto* share = app.add_option("--kv-ratio", ratio, "the budget as a share of the prompt's full cache, such as 0.05")
                      ->type_name("R")
                      ->check(number_in(1e-9, 1))
                      ->group(kGroup);
    tokens->excludes(bytes)->excludes(share);
    bytes->excludes(share);
}

void KvFlags::add_method_to(CLI::App& app) {
    app.add_option("--window", options.window,
                   "the last W tokens, which are always kept and whose attention scores the others")
        ->type_name("W")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--gamma", options.gamma, "weight of the attention's variance in the score (scorer cake)")
        ->type_name("X")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--pool-kernel", options.pool_kernel,
                   "neighbouring tokens over which scores are pooled, an odd number (default: the policy's own: cake+ "
                   "25, cake 5, snapkv 7)")
        ->type_name("N")
        ->group(kGroup);
    app.add_option("--tau1", options.tau1,
                   "a layer's preference is dispersion^(1/tau1) * shift^(1/tau2) (allocator preference)")
        ->type_name("X")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--tau2", options.tau2, "see --tau1")->type_name("X")->capture_default_str()->group(kGroup);
    app.add_option(
           "--evict-interval", options.evict_interval,
           "tokens generated between evictions (default: a sixteenth of the budget outside the window, at most 32)")
        ->type_name("N")
        ->check(CLI::Range(1, 1 << 30))
        ->group(kGroup);
    app.add_option("--cache-type-k", options.cache_type_k,
                   "type of the cached keys, also -ctk: f16, bf16, f32, q8_0, q4_0")
        ->type_name("TYPE")
        ->capture_default_str()
        ->group(kGroup);
    app.add_option("--cache-type-v", options.cache_type_v, "type of the cached values, also -ctv")
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

std::vector<SequenceOptions> KvFlags::options_of(const std::vector<std::string>& policies) const {
    std::vector<SequenceOptions> result;
    const bool some_evict = std::ranges::any_of(policies, [](const auto& policy) { return policy != kFullPolicy; });
    for (const auto& policy : policies) {
        KvFlags of_policy = *this;
        of_policy.options.policy = policy;
        if (policy == kFullPolicy && some_evict) {
            of_policy.memory.reset();
            of_policy.tokens_per_layer = 0;
            of_policy.ratio = 0;
        }
        result.push_back(of_policy.sequence_options());
    }
    return result;
}

void warn_of_unread_flags(const CLI::App& app, std::span<const SequenceOptions> policies) {
    const auto of_somebody = options_of_all_methods();
    std::vector<std::string> read;
    std::vector<std::string> names;
    for (const auto& options : policies) {
        read.append_range(options_read(options));
        auto name = options.policy;
        if (!options.scorer.empty()) name += " with --scorer " + options.scorer;
        if (!options.allocator.empty()) name += " with --allocator " + options.allocator;
        if (!std::ranges::contains(names, name)) names.push_back(std::move(name));
    }
    std::vector<std::string> unread;
    for (const auto* option : app.get_options()) {
        auto member = option->get_single_name();
        std::ranges::replace(member, '-', '_');
        const bool given = option->get_group() == kGroup && option->count() > 0;
        if (given && std::ranges::contains(of_somebody, member) && !std::ranges::contains(read, member))
            unread.push_back(option->get_name());
    }
    if (unread.empty()) return;
    complain(fmt::format("warning: {} {} no effect with the policy {}", list(unread),
                         unread.size() == 1 ? "has" : "have", list(names)));
}

bool names_policy(const CLI::App& app) {
    return app.count("--policy") + app.count("--scorer") + app.count("--allocator") > 0;
}

bool evicts(const SequenceOptions& options) {
    return options.policy != kFullPolicy || !options.scorer.empty();
}

void refuse_kept_flags(const CLI::App& app, std::string_view otherwise, std::string_view allowed) {
    const auto refuse = [&](const CLI::Option& option) {
        throw CLI::ValidationError(
            fmt::format("{} cannot be changed in a saved session: leave it out, or {}", option.get_name(), otherwise));
    };
    if (const auto& context = *app.get_option("--ctx-size"); context.count() > 0 && context.as<int64_t>() > 0) {
        if (!allowed.empty())
            throw CLI::ValidationError(
                fmt::format("{} cannot be changed in a saved session: {} makes room for questions and answers",
                            context.get_name(), allowed));
        refuse(context);
    }
    for (const auto* option : app.get_options())
        if (option->get_group() == kGroup && option->count() > 0 && option->get_name() != allowed) refuse(*option);
}

void AnswerFlags::add_to(CLI::App& app) {
    app.add_option("-n,--predict", n_predict,
                   "tokens to generate; -1: until the model ends its text, 0: only read the prompt")
        ->type_name("N")
        ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40))
        ->capture_default_str();
    add_sampling(app, sampling);
    app.add_flag("--ignore-eos", ignore_eos, "never sample a token that ends the text");
}

namespace {

std::vector<SamplerStep> samplers_of(const std::string& names) {
    std::vector<SamplerStep> steps;
    for (const auto part : std::views::split(std::string_view(names), ';')) {
        const std::string_view name(part);
        const auto step = sampler_step_of(name);
        if (!step)
            throw CLI::ValidationError("--samplers",
                                       fmt::format("there is no sampler \"{}\", only {}", name, sampler_step_names()));
        steps.push_back(*step);
    }
    return steps;
}

}  // namespace

void add_sampling(CLI::App& app, SamplingOptions& sampling) {
    constexpr const char* kSampling = "Sampling";
    app.add_option_function<int64_t>(
           "-s,--seed", [&sampling](int64_t seed) { sampling.seed = static_cast<uint32_t>(seed); },
           "seed; -1, the default: a different one each time")
        ->type_name("N")
        ->check(CLI::Range(int64_t{-1}, int64_t{0xFFFFFFFF}))
        ->group(kSampling);
    for (const auto& field : sampling_fields()) {
        const auto add = [&](auto member) {
            app.add_option(field.flags, sampling.*member, field.help)
                ->type_name(field.unit)
                ->check(number_in(field.least, field.most))
                ->capture_default_str()
                ->group(kSampling);
        };
        std::visit(add, field.member);
    }
    app.add_option_function<std::string>(
           "--samplers", [&sampling](const std::string& names) { sampling.samplers = samplers_of(names); },
           fmt::format("the samplers in their order, separated by semicolons (default: {})", sampler_step_names()))
        ->type_name("NAME;…")
        ->group(kSampling);
    app.add_option_function<std::vector<std::string>>(
           "--dry-sequence-breaker",
           [&sampling](const std::vector<std::string>& texts) { sampling.dry_sequence_breakers = texts; },
           R"(a text that ends a repetition for DRY, may be given several times (default: a line break, ":", "\"" and "*"))")
        ->type_name("TEXT")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->group(kSampling);
}

void add_segment(CLI::App& app, int64_t& segment) {
    app.add_option("--segment", segment,
                   "read the text in segments of this many tokens, each over what was kept of the earlier ones, "
                   "which bounds the memory of prefill; 0: all at once")
        ->type_name("TOKENS")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->capture_default_str();
}

void add_context(CLI::App& app, int64_t& n_ctx) {
    app.add_option("-c,--ctx-size", n_ctx, "maximum tokens of prompt and answer together; 0: no limit")
        ->type_name("N")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->capture_default_str();
}

void TemplateFlags::add_to(CLI::App& app) {
    auto* by_name =
        app.add_option("--chat-template", name,
                       "a chat template by its name in libllama (chatml, llama3, …), instead of the model's")
            ->type_name("NAME");
    app.add_option("--chat-template-file", file, "a chat template (Jinja) instead of the model's")
        ->type_name("FILE")
        ->excludes(by_name);
    app.add_option("--chat-template-kwargs", kwargs,
                   R"(additional variables for the chat template, a JSON object: '{"enable_thinking": false}')")
        ->type_name("JSON");
}

Result<ChatOptions> TemplateFlags::chat_options() const {
    ChatOptions options{.template_name = name, .template_kwargs = kwargs};
    if (file.empty()) return options;
    auto source = read_file(file);
    if (!source) return std::unexpected(source.error());
    if (source->empty()) return fail(file + ": is empty");
    options.template_source = std::move(*source);
    return options;
}

Result<void> TemplateFlags::apply_to(ConversationOptions& options) const {
    auto chat = chat_options();
    if (!chat) return std::unexpected(chat.error());
    options.chat_template = std::move(chat->template_name);
    options.chat_template_source = std::move(chat->template_source);
    options.chat_template_kwargs = std::move(chat->template_kwargs);
    return {};
}

}  // namespace cake::cli
