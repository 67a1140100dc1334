#include "text/sampler.hpp"

#include <llama.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace cake {

SamplingOptions without_end(SamplingOptions options, const Vocabulary& vocabulary) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    for (int32_t token = 0; token < vocabulary.n_tokens(); token++)
        if (vocabulary.is_end_of_generation(token)) options.logit_bias.push_back({.token = token, .bias = kNever});
    return options;
}

Sampler::Sampler(const SamplingOptions& options, int32_t n_vocab)
    : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())) {
    const auto add = [this](llama_sampler* sampler) { llama_sampler_chain_add(chain_.get(), sampler); };
    std::vector<llama_logit_bias> biases;
    for (const auto& [token, bias] : options.logit_bias)
        if (token >= 0 && token < n_vocab) biases.push_back({.token = token, .bias = bias});
    if (!biases.empty())
        add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(biases.size()), biases.data()));
    if (options.frequency_penalty != 0 || options.presence_penalty != 0) {
        constexpr int32_t kLastTokens = 1 << 15;
        constexpr float kNoRepeatPenalty = 1;
        add(llama_sampler_init_penalties(n_vocab, kLastTokens, kNoRepeatPenalty, options.frequency_penalty,
                                         options.presence_penalty));
    }
    // Logits overflow when they are divided by a lower temperature.
    constexpr float kColdest = 1e-4F;
    if (options.temperature < kColdest) {
        add(llama_sampler_init_greedy());
        return;
    }
    add(llama_sampler_init_top_k(options.top_k));
    add(llama_sampler_init_top_p(options.top_p, 1));
    add(llama_sampler_init_min_p(options.min_p, 1));
    add(llama_sampler_init_temp(options.temperature));
    add(llama_sampler_init_dist(options.seed));
}

Result<Sampler> Sampler::create(const SamplingOptions& options, int32_t n_vocab, const Vocabulary& vocabulary,
                                const CheckedGrammar* grammar) {
    Sampler result(options, n_vocab);
    if (grammar == nullptr) return result;
    auto read = Grammar::create(vocabulary.get(), *grammar);
    if (!read) return std::unexpected(read.error());
    result.grammar_ = std::move(*read);
    return result;
}

Result<int32_t> Sampler::sample(std::span<const float> logits) {
    auto candidates = candidates_of(logits);
    auto token = draw(candidates);
    // Checking every token of the vocabulary against a grammar is slow, so check only the one that was drawn. If the
    // grammar does not allow it, draw again among those that it allows.
    auto* const grammar = grammar_ ? &*grammar_ : nullptr;
    if (grammar != nullptr && !(token && grammar->allows(*token))) {
        candidates = candidates_of(logits);
        grammar->restrict(candidates);
        token = draw(candidates);
        if (!(token && grammar->allows(*token))) token = grammar->end();
        if (!token) return fail("the grammar allows no token here: the text cannot continue");
    }
    if (!token) return fail("no token is possible: the logit biases exclude all of them");
    llama_sampler_accept(chain_.get(), *token);
    if (grammar != nullptr) {
        if (auto accepted = grammar->accept(*token); !accepted) return std::unexpected(accepted.error());
    }
    return *token;
}

llama_token_data_array Sampler::candidates_of(std::span<const float> logits) {
    candidates_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); i++) {
        candidates_[i] = {.id = static_cast<llama_token>(i), .logit = logits[i], .p = 0};
    }
    return {.data = candidates_.data(), .size = candidates_.size(), .selected = -1, .sorted = false};
}

std::optional<int32_t> Sampler::draw(llama_token_data_array& candidates) {
    llama_sampler_apply(chain_.get(), &candidates);
    const auto& drawn = candidates.data[std::max<int64_t>(candidates.selected, 0)];
    if (!(drawn.logit > -std::numeric_limits<float>::infinity())) return std::nullopt;
    return drawn.id;
}

}  // namespace cake
