#include "engine/sequence_state.hpp"

#include <algorithm>
#include <cmath>
#include <format>
#include <limits>

#include "method/allocator.hpp"
#include "method/policy.hpp"

namespace cake {

namespace {

std::string names_of(const std::vector<Named>& table) {
    std::string names;
    for (const auto& entry : table) names += (names.empty() ? "" : ", ") + entry.name;
    return names;
}

template <typename Entry>
Named named(const Entry& entry) {
    return {.name = std::string(entry.name), .summary = std::string(entry.summary)};
}

Result<ggml_type> cache_type(const std::string& name) {
    constexpr ggml_type kTypes[] = {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_F32, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0};
    const auto* type = std::ranges::find_if(kTypes, [&](ggml_type t) { return name == ggml_type_name(t); });
    if (type == std::end(kTypes))
        return fail(std::format("there is no cache type \"{}\"; these are: f16, bf16, f32, q8_0, q4_0", name));
    return *type;
}

Result<Policy> resolve_policy(const SequenceOptions& o) {
    Policy result{.name = o.policy, .summary = {}, .scorer = nullptr, .allocator = nullptr};
    // "SCORER:ALLOCATOR" names the halves; --scorer and --allocator replace them.
    const auto colon = o.policy.find(':');
    std::string scorer = o.scorer;
    std::string allocator = o.allocator;
    if (colon != std::string::npos) {
        if (scorer.empty()) scorer = o.policy.substr(0, colon);
        if (allocator.empty()) allocator = o.policy.substr(colon + 1);
    } else {
        const Policy* policy = find_policy(o.policy);
        if (policy == nullptr) {
            return fail(
                std::format("there is no policy \"{}\"; these are: {}; and SCORER:ALLOCATOR, of the scorers {} "
                            "and the allocators {}",
                            o.policy, names_of(policy_names()), names_of(scorer_names()), names_of(allocator_names())));
        }
        result.scorer = policy->scorer;
        result.allocator = policy->allocator;
    }
    if (!scorer.empty()) {
        result.scorer = find_scorer(scorer);
        if (result.scorer == nullptr)
            return fail(std::format("there is no scorer \"{}\"; these are: {}", scorer, names_of(scorer_names())));
    }
    if (!allocator.empty()) {
        result.allocator = find_allocator(allocator);
        if (result.allocator == nullptr)
            return fail(
                std::format("there is no allocator \"{}\"; these are: {}", allocator, names_of(allocator_names())));
    }
    if ((result.scorer == nullptr) != (result.allocator == nullptr)) {
        return fail(
            std::format("the policy {} evicts nothing: name both a scorer and an allocator to change that", o.policy));
    }
    if (result.scorer == nullptr && o.budget.has_value()) {
        return fail(
            std::format("the policy {} keeps everything and takes no budget: leave the budget out, and bound the "
                        "context instead (-c)",
                        o.policy));
    }
    return result;
}

Result<void> check_numbers(const SequenceOptions& o) {
    constexpr int32_t kMostWindow = 1024;
    if (o.window < 1 || o.window > kMostWindow)
        return fail(std::format("a window of {} tokens is not possible: 1 to {} are", o.window, kMostWindow));
    if (!std::isfinite(o.gamma) || o.gamma < 0) return fail("gamma must be a number of at least 0");
    constexpr int32_t kMostPooled = 127;
    if (o.pool_kernel < 0 || o.pool_kernel > kMostPooled || (o.pool_kernel > 0 && o.pool_kernel % 2 == 0)) {
        return fail(
            std::format("a pooling kernel of {} keys is not possible: odd numbers to {} are (or 0 for the "
                        "scorer's own)",
                        o.pool_kernel, kMostPooled));
    }
    const auto positive = [](double x) { return std::isfinite(x) && x > 0; };
    if (!positive(o.tau1) || !positive(o.tau2)) return fail("tau1 and tau2 must be positive numbers");
    if (o.evict_interval < 0) return fail("the evict interval must be at least 1 token (or 0 for the default)");
    if (o.max_tokens < 0) return fail("the context must be at least 1 token (or 0 for no limit)");
    const auto* ratio = o.budget ? std::get_if<KvRatio>(&*o.budget) : nullptr;
    if (ratio != nullptr && (!(ratio->ratio > 0) || ratio->ratio > 1))
        return fail(std::format("a K/V ratio of {} is not possible: above 0 to 1 is", ratio->ratio));
    return {};
}

/// Bytes of `tokens` tokens in every layer that keeps a window; make_sequence_state() refuses what would overflow.
uint64_t windows_bytes(const SequenceState& state, int32_t tokens) {
    return static_cast<uint64_t>(state.windows_shape.n_layer) * state.windows_shape.token_bytes() *
           static_cast<uint64_t>(tokens);
}

/// The stated budget in tokens a layer.
Result<int64_t> budget_tokens(const SequenceState& state, int64_t n_prompt) {
    const auto n_layer = static_cast<uint64_t>(state.shape.n_layer);
    const int64_t window = state.options.window;
    if (!state.evicts()) {
        const int64_t limit = state.options.max_tokens;
        return limit > 0 ? limit : std::max<int64_t>(n_prompt, state.hparams().n_ctx_train);
    }
    const Budget budget = state.options.budget.value_or(TokensPerLayer{});
    const uint64_t windows = windows_bytes(state, window_capacity(state));
    int64_t tokens = 0;
    std::string stated;
    if (const auto* per_layer = std::get_if<TokensPerLayer>(&budget)) {
        tokens = per_layer->tokens;
        stated = std::format("{} tokens a layer", tokens);
    } else if (const auto* bytes = std::get_if<KvBytes>(&budget)) {
        tokens = static_cast<int64_t>((bytes->bytes - std::min(bytes->bytes, windows)) /
                                      (n_layer * state.shape.token_bytes()));
        stated = std::format("{} bytes", bytes->bytes);
    } else {
        // A share of a short prompt may be less than the window, which always stays.
        const double share = std::get<KvRatio>(budget).ratio * static_cast<double>(n_prompt);
        tokens = std::max(static_cast<int64_t>(share), window);
    }
    if (tokens < window) {
        return fail(std::format(
            "a budget of {} cannot hold the window of {} tokens in {} layers: at least {} tokens a layer, {} bytes, "
            "or a smaller --window would work",
            stated, window, n_layer, window,
            windows + static_cast<uint64_t>(window) * n_layer * state.shape.token_bytes()));
    }
    return tokens;
}

/// Tokens that a layer may gain between two evictions: the interval, which has to leave something to be won by score.
Result<int32_t> decode_slack(int32_t interval, int64_t free_tokens) {
    const int64_t most = std::max<int64_t>(1, free_tokens / 2);
    if (interval > most) {
        return fail(
            std::format("an evict interval of {} tokens takes more than half of what the budget leaves beside the "
                        "window: at most {} is possible, or a larger budget",
                        interval, most));
    }
    return static_cast<int32_t>(interval > 0 ? interval : std::clamp<int64_t>(free_tokens / 16, 1, 32));
}

/// The place for the last queries of every layer.
Result<void> open_ring(SequenceState& state) {
    const auto n_layer = static_cast<size_t>(state.shape.n_layer);
    auto* type = state.engine->compute.buffer_type();
    const int64_t width = static_cast<int64_t>(state.hparams().head_dim_k) * state.hparams().n_head;
    const size_t layer_bytes = GGML_PAD(ggml_row_size(GGML_TYPE_F32, width) * static_cast<size_t>(state.options.window),
                                        ggml_backend_buft_get_alignment(type));
    auto buffer = AccountedBuffer::allocate(state.accountant, MemoryUse::compute, type, layer_bytes * n_layer,
                                            "the window's queries");
    if (!buffer) return std::unexpected(buffer.error());
    state.ring.buffer = std::move(*buffer);
    state.ring.context.reset(
        ggml_init({.mem_size = n_layer * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(state.ring.buffer.get()));
    for (size_t i = 0; i < n_layer; i++) {
        auto* tensor = ggml_new_tensor_2d(state.ring.context.get(), GGML_TYPE_F32, width, state.options.window);
        ggml_backend_tensor_alloc(state.ring.buffer.get(), tensor, base + i * layer_bytes);
        state.ring.layers.push_back(tensor);
    }
    return {};
}

int32_t bounded_window_capacity(const SequenceState& state, int64_t most_tokens) {
    const int64_t n_swa = state.hparams().n_swa;
    return static_cast<int32_t>(std::min(n_swa + std::max<int64_t>(n_swa / 16, 1), most_tokens));
}

}  // namespace

std::vector<Named> policy_names() {
    std::vector<Named> result;
    for (const auto& policy : policies()) result.push_back(named(policy));
    return result;
}
std::vector<Named> scorer_names() {
    std::vector<Named> result;
    for (const auto* scorer : scorers()) result.push_back(named(*scorer));
    return result;
}
std::vector<Named> allocator_names() {
    std::vector<Named> result;
    for (const auto& allocator : allocators()) result.push_back(named(allocator));
    return result;
}

Result<void> validate(const SequenceOptions& options) {
    if (auto checked = check_numbers(options); !checked) return checked;
    for (const auto& name : {options.cache_type_k, options.cache_type_v}) {
        if (const auto type = cache_type(name); !type) return std::unexpected(type.error());
    }
    if (const auto policy = resolve_policy(options); !policy) return std::unexpected(policy.error());
    return {};
}

std::vector<std::string> options_read(const SequenceOptions& options) {
    const auto policy = resolve_policy(options);
    if (!policy || policy->scorer == nullptr) return {};
    std::vector<std::string> names = {"window", "evict_interval"};
    names.append_range(policy->scorer->options);
    // The preference is computed to be reported, too.
    const auto* reporter = options.analyse ? find_allocator("preference") : policy->allocator;
    for (const auto& name : reporter->options)
        if (!name.empty()) names.emplace_back(name);
    return names;
}

int32_t window_capacity(const SequenceState& state) {
    constexpr int64_t kNoLimit = std::numeric_limits<int32_t>::max();
    return bounded_window_capacity(state, state.options.max_tokens > 0 ? state.options.max_tokens : kNoLimit);
}

void QueryRing::push(int64_t n) {
    next = static_cast<int32_t>((next + n) % n_rows());
    n_filled = static_cast<int32_t>(std::min(n_filled + n, n_rows()));
}

void QueryRing::pop(int64_t n) {
    n = std::min<int64_t>(n, n_filled);
    next = static_cast<int32_t>((next - n + n_rows()) % n_rows());
    n_filled -= static_cast<int32_t>(n);
}

std::vector<WindowQuery> QueryRing::newest(int64_t n) const {
    std::vector<WindowQuery> queries;
    for (int64_t row = 0; row < n_rows(); row++) {
        const int64_t age = (next - 1 - row + n_rows()) % n_rows();
        if (age < std::min<int64_t>(n, n_filled)) queries.push_back({.row = row, .unseen = age});
    }
    return queries;
}

bool SequenceState::reads_window() const {
    return evicts() && (scorer->reads.window || allocator->reads_attention || options.analyse);
}

ggml_tensor* SequenceState::sinks(int32_t layer) const {
    const auto i = static_cast<size_t>(model_layers[static_cast<size_t>(layer)]);
    return engine->weights.layers[i].attn_sinks;
}

bool SequenceState::reads_queries() const {
    return reads_window() || sums_attention() || options.keep_queries;
}

Result<KvShape> make_kv_shape(const Hparams& hparams, const std::string& type_k, const std::string& type_v) {
    const auto parse = [&](const std::string& name, int32_t head_dim) -> Result<ggml_type> {
        const auto type = cache_type(name);
        if (!type) return type;
        if (head_dim % ggml_blck_size(*type) != 0) {
            return fail(std::format(
                "the cache type {} needs heads of a multiple of {} values and this model's have {}; f16 works", name,
                ggml_blck_size(*type), head_dim));
        }
        return *type;
    };
    const auto k = parse(type_k, hparams.head_dim_k);
    if (!k) return std::unexpected(k.error());
    const auto v = parse(type_v, hparams.head_dim_v);
    if (!v) return std::unexpected(v.error());
    return KvShape{.n_layer = hparams.n_layer,
                   .n_head_kv = hparams.n_head_kv,
                   .head_dim_k = hparams.head_dim_k,
                   .head_dim_v = hparams.head_dim_v,
                   .type_k = *k,
                   .type_v = *v};
}

Result<std::unique_ptr<SequenceState>> make_sequence_state(std::shared_ptr<const EngineState> engine,
                                                           const SequenceOptions& options, Accountant* whole) {
    auto state = std::make_unique<SequenceState>();
    state->accountant = Accountant(whole);
    state->engine = std::move(engine);
    state->options = options;
    if (auto checked = check_numbers(options); !checked) return std::unexpected(checked.error());
    const auto policy = resolve_policy(options);
    if (!policy) return std::unexpected(policy.error());
    state->scorer = policy->scorer;
    state->allocator = policy->allocator;
    auto shape = make_kv_shape(state->hparams(), options.cache_type_k, options.cache_type_v);
    if (!shape) return std::unexpected(shape.error());
    state->shape = state->windows_shape = *shape;
    state->shape.n_layer = state->windows_shape.n_layer = 0;
    for (int32_t layer = 0; layer < shape->n_layer; layer++) {
        const bool windowed = state->hparams().is_swa(layer);
        auto& of_kind = windowed ? state->windows_shape : state->shape;
        state->places.push_back({.windowed = windowed, .index = of_kind.n_layer++});
        if (!windowed) state->model_layers.push_back(layer);
    }
    state->layers.resize(state->model_layers.size());
    state->n_unread.resize(state->model_layers.size());
    constexpr double kMostBytes = 0x1p60;
    if (static_cast<double>(state->windows_shape.n_layer) * static_cast<double>(shape->token_bytes()) *
            static_cast<double>(window_capacity(*state)) >
        kMostBytes) {
        return fail(std::format("{}: sliding windows of {} tokens are larger than any memory",
                                state->engine->file.path(), state->hparams().n_swa));
    }
    // A budget that cannot work is refused before a long text is read.
    if (auto budget = budget_tokens(*state, 1); !budget) return std::unexpected(budget.error());
    return state;
}

Result<StorePlan> plan_store(const SequenceState& state, int64_t n_prompt) {
    const auto budget = budget_tokens(state, n_prompt);
    if (!budget) return std::unexpected(budget.error());
    // Positions, lengths and slots are counted in 32 bits.
    constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max() / 2;
    const auto& shape = state.shape;
    const uint64_t bytes_per_token = static_cast<uint64_t>(shape.n_layer) * shape.token_bytes();
    const int32_t window_tokens = state.evicts() ? window_capacity(state) : bounded_window_capacity(state, *budget);
    constexpr auto kMostBytes = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    const uint64_t windows = windows_bytes(state, window_tokens);
    const bool too_many_bytes =
        windows > kMostBytes / 2 || static_cast<uint64_t>(*budget) > kMostBytes / 2 / bytes_per_token;
    if (*budget > kMostTokens || too_many_bytes) {
        return state.evicts()
                   ? fail(std::format("a budget of {} tokens a layer is larger than any memory: ask for less", *budget))
                   : fail(std::format("a full cache of {} tokens is larger than any memory: bound the "
                                      "context (-c), or take a policy that evicts",
                                      *budget));
    }
    StorePlan plan{.tokens_per_layer = *budget, .window_capacity = window_tokens};
    if (state.evicts()) {
        const auto slack = decode_slack(state.options.evict_interval, *budget - state.options.window);
        if (!slack) return std::unexpected(slack.error());
        plan.slack = *slack;
    }
    return plan;
}

uint64_t store_bytes(const SequenceState& state, const KvShape& shape, int64_t tokens_per_layer) {
    if (shape.n_layer == 0) return 0;
    const int64_t n_slots = tokens_per_layer * shape.n_layer * shape.n_head_kv;
    return kv_buffer_bytes(state.engine->compute.buffer_type(), shape, n_slots);
}

uint64_t planned_bytes(const SequenceState& state, const StorePlan& plan) {
    return store_bytes(state, state.shape, plan.tokens_per_layer) +
           store_bytes(state, state.windows_shape, plan.window_capacity);
}

Result<void> open_store(SequenceState& state, const StorePlan& plan) {
    auto* type = state.engine->compute.buffer_type();
    auto store = KvStore::create(state.accountant, type, state.shape, plan.tokens_per_layer);
    if (!store) {
        return state.evicts()
                   ? std::unexpected(store.error())
                   : fail(std::format("a full cache of {} tokens: {}; bound the context (-c), or take a policy "
                                      "that evicts",
                                      plan.tokens_per_layer, store.error().message));
    }
    state.store = std::move(*store);
    if (state.windows_shape.n_layer > 0) {
        auto windows = KvStore::create(state.accountant, type, state.windows_shape, plan.window_capacity);
        if (!windows) return std::unexpected(windows.error());
        state.windows = std::move(*windows);
        const auto n_runs =
            static_cast<size_t>(state.windows_shape.n_layer) * static_cast<size_t>(state.shape.n_head_kv);
        state.windows.arrange(std::vector<int32_t>(n_runs, plan.window_capacity));
    }
    if (auto ring = state.reads_queries() ? open_ring(state) : Result<void>(); !ring) return ring;
    state.slack = plan.slack;
    state.tokens_per_layer = plan.tokens_per_layer;
    return {};
}

void close_store(SequenceState& state) {
    state.store = {};
    state.windows = {};
    state.ring = {};
    state.slack = 0;
    state.tokens_per_layer = 0;
}

}  // namespace cake
