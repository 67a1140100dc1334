#include "engine/generator.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace cake {

namespace {

bool are_finite(std::span<const float> logits) {
    // Unlike all_of, counting has no early exit and can be vectorised: a few microseconds for a large vocabulary.
    return std::ranges::count_if(logits, [](float x) { return !std::isfinite(x); }) == 0;
}

}  // namespace

Generator::Generator(const EngineState& engine, GeneratorOptions options)
    : engine_(engine), options_(std::move(options)), text_(options_.stop) {
    if (options_.max_tokens == 0) end(FinishReason::length);
    if (options_.reasoning) reasoning_.emplace(engine.vocabulary, *options_.reasoning);
}

void Generator::end(FinishReason reason, Error error) {
    end_with({.reason = reason, .error = std::move(error)});
}

void Generator::end_with(Ending ending) {
    if (has_ended_) return;
    has_ended_ = true;
    ending_ = std::move(ending);
}

Result<void> Generator::make_sampler() {
    const auto& vocabulary = engine_.vocabulary;
    const auto sampling = options_.ignore_eos ? without_end(options_.sampling, vocabulary) : options_.sampling;
    std::unique_ptr<Restriction> restriction;
    if (options_.constraint) {
        auto begun = options_.constraint->rule().begin(vocabulary);
        if (!begun) return std::unexpected(begun.error());
        restriction = std::move(*begun);
    }
    sampler_ = std::make_unique<Sampler>(sampling, vocabulary, engine_.hparams.n_vocab, std::move(restriction));
    return {};
}

/// Samples a token. If the reasoning has to end, only the token that ends it can be drawn.
Result<Token> Generator::next(std::span<const float> logits) {
    if (!reasoning_) return sampler_->sample(logits, options_.wants_probabilities);
    std::vector<float> only;  // logits that allow a single token
    if (const auto forced = reasoning_->forced()) {
        only.assign(logits.size(), -std::numeric_limits<float>::infinity());
        only[static_cast<size_t>(*forced)] = 0;
        logits = only;
    }
    const auto token = sampler_->sample(logits, options_.wants_probabilities);
    if (token) reasoning_->take(*token);
    return token;
}

std::optional<Token> Generator::draw(std::span<const float> logits) {
    if (has_ended()) return std::nullopt;
    if (!are_finite(logits)) {
        end(FinishReason::failed,
            {engine_.file.path() +
                 ": the model computed numbers that are not finite: the model or the session is damaged",
             Error::Code::corrupt});
        return std::nullopt;
    }
    if (auto made = sampler_ ? Result<void>() : make_sampler(); !made) {
        end(FinishReason::failed, made.error());
        return std::nullopt;
    }
    const auto token = next(logits);
    if (!token) {
        end_with(
            {.reason = FinishReason::failed, .error = token.error(), .by_constraint = options_.constraint.has_value()});
        return std::nullopt;
    }
    if (engine_.vocabulary.is_end_of_generation(*token)) {
        end(FinishReason::end_of_generation);
        return std::nullopt;
    }
    n_drawn_++;
    if (!options_.stop.empty()) {
        text_.add(engine_.vocabulary.piece(*token));
        if (text_.stopped()) end(FinishReason::end_of_generation);
    }
    if (n_drawn_ == options_.max_tokens) end(FinishReason::length);
    return *token;
}

}  // namespace cake
