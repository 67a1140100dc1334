#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "engine/engine_state.hpp"
#include "engine/out_of_memory.hpp"
#include "engine/session.hpp"
#include "serving/batch_loop.hpp"

namespace cake {

/// True if the request may continue from what is in memory, and other requests from what it reads.
bool BatchLoop::may_reuse(const GenerationRequest& request) {
    return request.reuse && request.n_choices == 1 && !request.prompt_logprobs;
}

/// Number of tokens of the prompt that are read as a text of their own and kept for other prompts. 0 if it is not worth
/// it, or if it would change the answer without being asked for.
size_t BatchLoop::n_prefix(const WaitingRequest& waiting) const {
    if (n_parallel() < 2) return 0;  // there is never room for it
    const auto& request = *waiting.request;
    const int64_t n = request.prefix.n_tokens;
    const int64_t n_prompt = std::ssize(request.prompt);
    const auto& config = waiting.sequences.front().state->config;
    if (n < std::max<int64_t>(PromptPrefix::kMinTokens, config.options.window) || n >= n_prompt || !may_reuse(request))
        return 0;
    const auto plan = config.plan(n);
    const auto whole = config.plan(n_prompt);
    if (!plan || !whole || *plan != *whole) return 0;  // the budget depends on the length of the prompt
    // While the rest is read, each later layer still holds the prefix, which leaves less for the layers before it.
    if (config.evicts() && config.scorer().reads.whole_text()) return 0;
    const bool is_short = !config.evicts() || 2 * n <= plan->tokens_per_layer;
    return is_short || request.prefix.may_evict ? static_cast<size_t>(n) : 0;
}

/// Fills a sequence with the copy of a prefix, if it is kept. If there is no memory for that, the prefix is read again.
void BatchLoop::begin_with_prefix(CachedSequence& sequence, std::span<const Token> tokens) {
    const auto& config = sequence.state->config;
    const auto* const prefix = cache_.find_prefix(config.options, tokens, sequence.salt);
    if (prefix == nullptr) return;
    const auto copied =
        within_memory([&] { return sequence.state->copy_text(*prefix->state, *config.plan(std::ssize(tokens))); });
    if (!copied) return sequence.state->close_cache();
    n_evicted_slots_ -= prefix->state->progress.n_evicted_slots;  // counted once, although held twice
    sequence.tokens = prefix->tokens;
    sequence.n_prompt = prefix->tokens.size();
}

/// Keeps a copy of the prefix that a request has just read. The first time that a prefix is seen, only memory that
/// nothing else uses is taken for it, because another prompt may never begin with it.
void BatchLoop::keep_prefix(const ActiveRequest& active) {
    const auto& request = active.request();
    const auto& read = active.choices().front().sequence;
    const bool was_seen = cache_.has_seen(read.tokens, request.cache_salt);
    auto config = read.state->config;
    const int64_t n_tokens = std::ssize(read.tokens);
    if (!config.evicts()) config.options.max_tokens = n_tokens;
    const auto plan = config.plan(n_tokens);
    if (!plan) return;
    const uint64_t n_bytes = planned_bytes(engine_->compute.memory(), config.layout, *plan);
    const bool is_room_left = n_bytes <= pool_.stores_left() && n_running() + cache_.size() < n_parallel();
    if (!is_room_left && !was_seen) return;
    if (!make_room_for(1) || !take_stores(n_bytes)) return;
    auto copied = within_memory([&] -> Result<CachedSequence> {
        CachedSequence prefix{.id = request.id + "-prefix",
                              .salt = request.cache_salt,
                              .state = std::make_unique<SequenceParts>(std::move(config), &accountant_),
                              .tokens = read.tokens,
                              .n_prompt = static_cast<size_t>(n_tokens),
                              .tokens_per_layer = plan->tokens_per_layer,
                              .kv_bytes = n_bytes,
                              .is_prefix = true};
        if (auto text = prefix.state->copy_text(*read.state, *plan); !text) return std::unexpected(text.error());
        return prefix;
    });
    if (!copied) return pool_.give_store(n_bytes);
    n_evicted_slots_ -= copied->state->progress.n_evicted_slots;
    cache_.keep(std::move(*copied));
}

/// Loads the text that the prompt begins with.
Result<void> BatchLoop::begin_with_saved(CachedSequence& sequence, const GenerationRequest& request) {
    const auto& saved = request.saved;
    const auto& options = sequence.state->config.options;
    const auto accept = [&](const SequenceParts& loaded, uint64_t n_bytes, int64_t longest_run) -> Result<void> {
        const bool is_same = loaded.progress.n_tokens == saved.n_tokens && n_bytes == sequence.kv_bytes &&
                             longest_run == saved.longest_run && same_options(loaded.config.options, options) &&
                             XXH3_64bits(loaded.note.data(), loaded.note.size()) == saved.note_hash;
        return is_same ? Result<void>() : fail(Error::Code::internal, "it was replaced");
    };
    auto state = load_session(engine_, saved.path,
                              {.n_more = std::max<int64_t>(sequence.tokens_per_layer - saved.tokens_per_layer, 0),
                               .max_tokens = options.max_tokens,
                               .whole = &accountant_,
                               .accept = accept});
    if (!state)
        return fail(
            Error::Code::internal,
            fmt::format("the document {} was removed or changed while the request waited: send it again", saved.name));
    sequence.state = std::move(*state);
    sequence.state->note.clear();
    sequence.tokens.assign(request.prompt.begin(), request.prompt.begin() + saved.n_tokens);
    sequence.n_prompt = sequence.tokens.size();
    return {};
}

}  // namespace cake
