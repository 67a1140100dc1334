#include "engine/sequence_config.hpp"

#include <fmt/format.h>

#include <cmath>
#include <tuple>

#include "memory/cache_type.hpp"
#include "model/layer_graph.hpp"
#include "model/output_weights.hpp"

namespace cake {

namespace {

PolicyNames names_in(const SequenceOptions& o) {
    return {.policy = o.policy, .scorer = o.scorer, .allocator = o.allocator};
}

Result<Policy> policy_of(const SequenceOptions& o) {
    auto policy = resolve_policy(names_in(o));
    if (policy && !policy->evicts() && o.budget.has_value()) {
        return fail(
            fmt::format("the policy {} keeps everything and takes no budget: leave the budget out, and bound the "
                        "context instead (-c)",
                        o.policy));
    }
    return policy;
}

Result<void> check_numbers(const SequenceOptions& o) {
    constexpr int32_t kMaxWindow = 1024;
    if (o.window < 1 || o.window > kMaxWindow)
        return fail(fmt::format("a window of {} tokens is not possible: use 1 to {}", o.window, kMaxWindow));
    if (!std::isfinite(o.gamma) || o.gamma < 0) return fail("gamma must be a number of at least 0");
    constexpr int32_t kMaxPooled = 127;
    if (o.pool_kernel < 0 || o.pool_kernel > kMaxPooled || (o.pool_kernel > 0 && o.pool_kernel % 2 == 0)) {
        return fail(
            fmt::format("a pooling kernel of {} keys is not possible: use an odd number up to {} (or 0 for the "
                        "scorer's own)",
                        o.pool_kernel, kMaxPooled));
    }
    const auto positive = [](double x) { return std::isfinite(x) && x > 0; };
    if (!positive(o.tau1) || !positive(o.tau2)) return fail("tau1 and tau2 must be positive numbers");
    if (o.evict_interval < 0) return fail("the evict interval must be at least 1 token (or 0 for the default)");
    if (o.max_tokens < 0) return fail("the context must be at least 1 token (or 0 for no limit)");
    const auto* ratio = o.budget ? std::get_if<KvRatio>(&*o.budget) : nullptr;
    if (ratio != nullptr && (!(ratio->ratio > 0) || ratio->ratio > 1))
        return fail(fmt::format("a K/V ratio of {} is not possible: it must be above 0 and at most 1", ratio->ratio));
    return {};
}

Result<CacheLayout> make_layout(const EngineState& engine, const SequenceOptions& options) {
    const auto& h = engine.hparams;
    const auto sliced = make_kv_shape(h, h.heads_of_whole(), options.cache_type_k, options.cache_type_v);
    if (!sliced) return std::unexpected(sliced.error());
    const auto sliding = make_kv_shape(h, h.swa_heads, options.cache_type_k, options.cache_type_v);
    if (!sliding) return std::unexpected(sliding.error());
    CacheLayout layout{.sliced = *sliced, .sliding = *sliding, .n_swa = h.n_swa};
    for (int32_t layer = 0; layer < h.n_layer_kv_from_start; layer++) {
        if (h.has_state(layer)) layout.recurrent_layers.push_back(layer);
        if (!h.is_recurrent(layer)) (h.is_swa(layer) ? layout.sliding_layers : layout.sliced_layers).push_back(layer);
    }
    if (h.has_recurrent()) layout.n_recurrent_state = h.recurrent.n_state();
    layout.sliced.n_layer = static_cast<int32_t>(layout.sliced_layers.size());
    layout.sliding.n_layer = static_cast<int32_t>(layout.sliding_layers.size());
    const auto sizes = [](const KvShape& shape) {
        return std::tuple(shape.n_head_kv, shape.head_dim_k, shape.head_dim_v);
    };
    layout.has_other_windows = layout.sliding.n_layer > 0 && sizes(*sliced) != sizes(*sliding);
    layout.stages_apart = layout.sliding.n_layer > 0 && h.n_layer_kv_from_start < h.n_layer;
    constexpr double kMaxBytes = 0x1p60;
    const double bytes = static_cast<double>(layout.sliding.n_layer) * static_cast<double>(sliding->token_bytes()) *
                         static_cast<double>(layout.sliding_capacity(options.max_tokens));
    if (bytes > kMaxBytes) {
        return fail(
            fmt::format("{}: sliding windows of {} tokens are larger than any memory", engine.file.path(), h.n_swa));
    }
    return layout;
}

/// Refuses K/V of types with which a device does not compute attention, if it does with others. Heads of a size with
/// which it never does are computed on the CPU.
Result<void> check_types_of_devices(const EngineState& engine, const CacheLayout& layout) {
    if (engine.compute.is_cpu()) return {};
    for (int32_t layer = 0; layer < engine.hparams.n_layer_kv_from_start; layer++) {
        if (!layout.holds_tokens(layer)) continue;
        ggml_backend_dev_t device = engine.compute.device(layer);
        const auto& shape = layout.is_sliding(layer) ? layout.sliding : layout.sliced;
        const auto supports = [&](ggml_type k, ggml_type v) {
            return supports_slots(device, {.k = k,
                                           .v = v,
                                           .head_dim_k = shape.head_dim_k,
                                           .head_dim_v = shape.head_dim_v,
                                           .n_head = engine.hparams.n_head,
                                           .n_head_kv = shape.n_head_kv});
        };
        if (device == engine.compute.cpu() || supports(shape.type_k, shape.type_v)) continue;
        std::string others;
        for (const ggml_type type : kCacheTypes)
            if (shape.head_dim_k % ggml_blck_size(type) == 0 && shape.head_dim_v % ggml_blck_size(type) == 0 &&
                supports(type, type))
                others += fmt::format("{}{}", others.empty() ? "" : ", ", ggml_type_name(type));
        if (others.empty()) continue;
        return fail(
            Error::Code::unsupported,
            fmt::format("{} cannot compute attention with K of type {} and V of type {}: use one of {} for both, "
                        "or the CPU (--device none)",
                        ggml_backend_dev_name(device), ggml_type_name(shape.type_k), ggml_type_name(shape.type_v),
                        others));
    }
    return {};
}

}  // namespace

Result<void> validate(const SequenceOptions& options) {
    if (auto checked = check_numbers(options); !checked) return checked;
    for (const auto& name : {options.cache_type_k, options.cache_type_v}) {
        if (const auto type = parse_cache_type(name); !type) return std::unexpected(type.error());
    }
    if (const auto policy = policy_of(options); !policy) return std::unexpected(policy.error());
    return {};
}

std::vector<std::string> options_read(const SequenceOptions& options) {
    const auto policy = policy_of(options);
    if (!policy || !policy->evicts()) return {};
    std::vector<std::string> names = {"window", "evict_interval"};
    names.append_range(policy->scorer->options);
    if (policy->decode_scorer != policy->scorer) names.append_range(policy->decode_scorer->options);
    // With `analyse`, the preference is computed for the reports, and its options have an effect.
    const auto* reporter = options.analyse ? find_allocator("preference") : policy->allocator;
    for (const auto& name : reporter->options)
        if (!name.empty()) names.emplace_back(name);
    return names;
}

bool reads_whole_text(const SequenceOptions& options) {
    const auto policy = policy_of(options);
    return policy && policy->evicts() && policy->scorer->reads.whole_text();
}

Result<SequenceConfig> SequenceConfig::make(std::shared_ptr<const EngineState> engine, const SequenceOptions& options) {
    if (auto checked = check_numbers(options); !checked) return std::unexpected(checked.error());
    const auto policy = policy_of(options);
    if (!policy) return std::unexpected(policy.error());
    if (policy->evicts() && policy->scorer->reads.replay != Replay::none && engine->hparams.max_positions() > 0) {
        return fail(
            Error::Code::unsupported,
            fmt::format("{}: has learned only {} positions, and the scorer {} needs more than the text has: use "
                        "another policy",
                        engine->file.path(), engine->hparams.max_positions(), policy->scorer->name));
    }
    auto layout = make_layout(*engine, options);
    if (!layout) return std::unexpected(layout.error());
    if (auto checked = check_types_of_devices(*engine, *layout); !checked) return std::unexpected(checked.error());
    const auto& h = engine->hparams;
    SequenceConfig config{
        {.options = options,
         .policy = *policy,
         .layout = std::move(*layout),
         .n_head = h.n_head,
         .traits = {},
         .attention = engine->attention,
         .output_weights =
             [e = engine.get()](int32_t layer) { return read_output_weights(e->file, e->hparams, layer); }},
        std::move(engine)};
    for (int32_t layer = 0; layer < h.n_layer; layer++)
        config.traits.push_back(attention_traits(h, config.engine->weights, layer));
    if (auto budget = check_budget(config.layout, config.demand()); !budget) return std::unexpected(budget.error());
    return config;
}

CacheDemand SequenceConfig::demand() const {
    return {.budget = options.budget,
            .evicts = evicts(),
            .window = options.window,
            .evict_interval = options.evict_interval,
            .max_tokens = options.max_tokens,
            .n_ctx_train = hparams().n_ctx_train};
}

Result<KvShape> make_kv_shape(const Hparams& hparams, const KvHeads& heads, const std::string& type_k,
                              const std::string& type_v) {
    const auto parse = [&](const std::string& name, int32_t head_dim) -> Result<ggml_type> {
        const auto type = parse_cache_type(name);
        if (!type) return type;
        if (head_dim % ggml_blck_size(*type) != 0) {
            return fail(fmt::format(
                "the cache type {} needs heads with a multiple of {} values, and this model's have {}; f16 works", name,
                ggml_blck_size(*type), head_dim));
        }
        return *type;
    };
    const auto k = parse(type_k, heads.head_dim_k);
    if (!k) return std::unexpected(k.error());
    const bool v_in_k = hparams.has_latent();
    if (v_in_k && type_v != type_k && type_v != SequenceOptions{}.cache_type_v) {
        return fail(
            fmt::format("this model's values are part of its keys, so --cache-type-v {} has no effect; "
                        "--cache-type-k sets the type of both",
                        type_v));
    }
    const auto v = parse(v_in_k ? type_k : type_v, heads.head_dim_v);
    if (!v) return std::unexpected(v.error());
    return KvShape{.n_head_kv = heads.n_head_kv,
                   .head_dim_k = heads.head_dim_k,
                   .head_dim_v = heads.head_dim_v,
                   .type_k = *k,
                   .type_v = *v,
                   .v_in_k = v_in_k};
}

}  // namespace cake
