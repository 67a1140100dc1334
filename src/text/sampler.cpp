#include "text/sampler.hpp"

#include <llama.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

namespace cake {

namespace {

constexpr int32_t kMaxBack = 1 << 15;  // tokens; more would only take memory

/// `n`: number of tokens to look back, -1 for all.
int32_t tokens_back(int32_t n) {
    return n < 0 ? kMaxBack : std::min(n, kMaxBack);
}

constexpr const char* kNoToken = "the constraint allows no token here: the text cannot continue";

}  // namespace

SamplingOptions without_end(SamplingOptions options, const Vocabulary& vocabulary) {
    constexpr float kNever = -std::numeric_limits<float>::infinity();
    for (int32_t token = 0; token < vocabulary.n_tokens(); token++)
        if (vocabulary.is_end_of_generation(token)) options.logit_bias.push_back({.token = token, .bias = kNever});
    return options;
}

Sampler::Sampler(const SamplingOptions& options, const Vocabulary& vocabulary, int32_t n_vocab,
                 std::unique_ptr<Restriction> restriction)
    : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())), restriction_(std::move(restriction)) {
    add_biases(options, n_vocab);
    // Logits overflow when they are divided by a lower temperature.
    constexpr float kColdest = 1e-4F;
    const bool greedy = options.temperature < kColdest;
    greedy_ = greedy;
    if (options.mirostat != 0 && !greedy) {
        constexpr int32_t kEstimate = 100;  // tokens that Mirostat estimates the distribution from, as in its paper
        add(llama_sampler_init_temp(options.temperature));
        add(options.mirostat == 1
                ? llama_sampler_init_mirostat(n_vocab, options.seed, options.mirostat_tau, options.mirostat_eta,
                                              kEstimate)
                : llama_sampler_init_mirostat_v2(options.seed, options.mirostat_tau, options.mirostat_eta));
        return;
    }
    for (const SamplerStep step : options.samplers) {
        // Every other step keeps the most likely token in its place.
        if (greedy && step != SamplerStep::penalties && step != SamplerStep::dry) continue;
        add_step(step, options, vocabulary, n_vocab);
    }
    add(greedy ? llama_sampler_init_greedy() : llama_sampler_init_dist(options.seed));
}

void Sampler::add(llama_sampler* sampler) {
    llama_sampler_chain_add(chain_.get(), sampler);
}

void Sampler::add_biases(const SamplingOptions& options, int32_t n_vocab) {
    std::vector<llama_logit_bias> biases;
    for (const auto& [token, bias] : options.logit_bias)
        if (token >= 0 && token < n_vocab) biases.push_back({.token = token, .bias = bias});
    if (!biases.empty())
        add(llama_sampler_init_logit_bias(n_vocab, static_cast<int32_t>(biases.size()), biases.data()));
}

void Sampler::add_step(SamplerStep step, const SamplingOptions& options, const Vocabulary& vocabulary,
                       int32_t n_vocab) {
    const auto min_keep = static_cast<size_t>(options.min_keep);
    switch (step) {
        case SamplerStep::penalties:
            return add_penalties(options, n_vocab);
        case SamplerStep::dry:
            return add_dry(options, vocabulary);
        case SamplerStep::top_n_sigma:
            if (options.top_n_sigma > 0) add(llama_sampler_init_top_n_sigma(options.top_n_sigma));
            return;
        case SamplerStep::top_k:
            return add(llama_sampler_init_top_k(options.top_k));
        case SamplerStep::typical_p:
            if (options.typical_p < 1) add(llama_sampler_init_typical(options.typical_p, min_keep));
            return;
        case SamplerStep::top_p:
            return add(llama_sampler_init_top_p(options.top_p, min_keep));
        case SamplerStep::min_p:
            return add(llama_sampler_init_min_p(options.min_p, min_keep));
        case SamplerStep::xtc:
            if (options.xtc_probability > 0)
                add(llama_sampler_init_xtc(options.xtc_probability, options.xtc_threshold, min_keep, options.seed));
            return;
        case SamplerStep::temperature:
            return add(options.dynatemp_range > 0
                           ? llama_sampler_init_temp_ext(options.temperature, options.dynatemp_range,
                                                         options.dynatemp_exponent)
                           : llama_sampler_init_temp(options.temperature));
    }
}

void Sampler::add_penalties(const SamplingOptions& options, int32_t n_vocab) {
    constexpr float kOff = 1;
    const int32_t last_n = tokens_back(options.repeat_last_n);
    if (options.repeat_penalty != kOff && last_n > 0)
        add(llama_sampler_init_penalties(n_vocab, last_n, options.repeat_penalty, 0, 0));
    if (options.frequency_penalty != 0 || options.presence_penalty != 0)
        add(llama_sampler_init_penalties(n_vocab, kMaxBack, kOff, options.frequency_penalty, options.presence_penalty));
}

void Sampler::add_dry(const SamplingOptions& options, const Vocabulary& vocabulary) {
    const int32_t last_n = tokens_back(options.dry_penalty_last_n);
    if (options.dry_multiplier <= 0 || last_n == 0) return;
    std::vector<const char*> breakers;
    for (const auto& text : options.dry_sequence_breakers) breakers.push_back(text.c_str());
    add(llama_sampler_init_dry(vocabulary.get(), options.dry_multiplier, options.dry_base, options.dry_allowed_length,
                               last_n, breakers.data(), breakers.size()));
}

Result<int32_t> Sampler::sample(std::span<const float> logits, bool restricts_first) {
    auto candidates = candidates_of(logits);
    auto token = restricts_first && restriction_ ? std::nullopt : draw(candidates);
    // Checking every token of the vocabulary is slow, so check only the one that was drawn. If it is not allowed, draw
    // again among those that are.
    if (restriction_ && !(token && restriction_->allows(*token))) {
        candidates = candidates_of(logits);
        restriction_->restrict(candidates);
        token = draw(candidates);
        if (!(token && restriction_->allows(*token))) token = restriction_->end();
        if (!token) return fail(restriction_->failure().empty() ? kNoToken : restriction_->failure());
    }
    if (!token) return fail("no token is possible: the logit biases exclude all of them");
    drawn_ = *token;
    llama_sampler_accept(chain_.get(), *token);
    if (restriction_) {
        if (auto accepted = restriction_->accept(*token); !accepted) return std::unexpected(accepted.error());
    }
    return *token;
}

std::vector<TokenProbability> Sampler::probabilities(size_t n) const {
    std::vector<TokenProbability> all;
    const auto left = std::span(candidates_).first(n_left_);
    const bool is_left = std::ranges::contains(left, drawn_, &llama_token_data::id);
    if (greedy_ || !is_left) {
        all.push_back({.token = drawn_, .probability = 1});
    } else {
        const float largest = std::ranges::max(left, {}, &llama_token_data::logit).logit;
        double sum = 0;
        for (const auto& candidate : left) {
            all.push_back(
                {.token = candidate.id, .probability = std::exp(static_cast<double>(candidate.logit) - largest)});
            sum += all.back().probability;
        }
        for (auto& entry : all) entry.probability /= sum;
    }
    const auto own = *std::ranges::find(all, drawn_, &TokenProbability::token);
    std::erase_if(all, [](const TokenProbability& entry) { return entry.probability == 0; });
    n = std::min(n, all.size());
    const auto end = all.begin() + static_cast<ptrdiff_t>(n);
    std::ranges::partial_sort(all, end, std::greater{}, &TokenProbability::probability);
    all.resize(n);
    all.insert(all.begin(), own);
    return all;
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
    n_left_ = candidates.size;
    const auto& drawn = candidates.data[std::max<int64_t>(candidates.selected, 0)];
    if (!(drawn.logit > -std::numeric_limits<float>::infinity())) return std::nullopt;
    return drawn.id;
}

}  // namespace cake
