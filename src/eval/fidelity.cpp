#include "eval/fidelity.hpp"
#include "cake/policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

namespace cake::eval {

namespace {

std::vector<double> log_softmax(std::span<const float> logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float x : logits) sum += std::exp(x - largest);
    const double offset = largest + std::log(sum);
    std::vector<double> result;
    result.reserve(logits.size());
    for (const float x : logits) result.push_back(x - offset);
    return result;
}

/// Sums over the tokens of one passage under one setting.
struct Sums {
    double kl = 0;
    double agreement = 0;
    double log_likelihood = 0;

    void add(std::span<const double> full, std::span<const double> other, Token next) {
        for (size_t i = 0; i < full.size(); i++) kl += std::exp(full[i]) * (full[i] - other[i]);
        const auto likeliest = [](std::span<const double> p) { return std::ranges::max_element(p) - p.begin(); };
        agreement += likeliest(full) == likeliest(other) ? 1 : 0;
        log_likelihood += other[static_cast<size_t>(next)];
    }
};

/// Per-passage values of one text under one setting.
struct Series {
    std::vector<double> kl, agreement, surprise;  // surprise: log-likelihood lost to the full cache, nats per token

    void add(const Sums& sums, const Sums& full, double n) {
        kl.push_back(std::max(sums.kl / n, 0.0));  // rounding can make a KL of 0 slightly negative
        agreement.push_back(sums.agreement / n);
        surprise.push_back((full.log_likelihood - sums.log_likelihood) / n);
    }

    std::vector<Figure> figures() const {
        auto of_kl = student_confidence(kl);
        if (of_kl) of_kl->low = std::max(of_kl->low, 0.0);
        auto of_ratio = student_confidence(surprise);
        if (of_ratio) *of_ratio = {std::exp(of_ratio->low), std::exp(of_ratio->high)};
        return {{.name = "kl", .value = mean(kl), .interval = of_kl},
                {.name = "top1", .value = mean(agreement), .interval = confidence(agreement)},
                {.name = "ppl_ratio", .value = std::exp(mean(surprise)), .interval = of_ratio}};
    }
};

class Comparison {
  public:
    Comparison(const Engine& engine, std::span<const Setting> settings, const CountProgress& progress)
        : engine_(engine), progress_(progress) {
        SequenceOptions full = settings.empty() ? SequenceOptions{} : settings.front().options;
        full.policy = kFullPolicy;
        full.budget.reset();
        full.cache_type_k = full.cache_type_v = SequenceOptions{}.cache_type_k;
        settings_.push_back({.policy = kFullPolicy, .budget = 0, .options = full});
        for (const auto& setting : settings) {
            const auto& o = setting.options;
            const bool same_types = o.cache_type_k == full.cache_type_k && o.cache_type_v == full.cache_type_v;
            alike_ = alike_ && same_types;
            if (setting.budget > 0 || !same_types) settings_.push_back(setting);
        }
    }

    Outcome run(std::span<const FidelityInput> texts) {
        for (const auto& text : texts) n_all_ += static_cast<size_t>(text.n_samples);
        Outcome outcome;
        for (const auto& text : texts) {
            if (auto compared = compare(text, outcome.rows); !compared && !stopped_) outcome.error = compared.error();
            if (stopped_ || outcome.error) break;
        }
        return outcome;
    }

  private:
    bool go_on() {
        stopped_ = stopped_ || (progress_ && !progress_(n_done_, n_all_));
        return !stopped_;
    }

    Result<void> compare(const FidelityInput& input, std::vector<Row>& rows) {
        const auto tokens = engine_.tokenize(input.text, false);
        if (!tokens) return fail(tokens.error().code, input.name + ": " + tokens.error().message);
        const auto first = engine_.first_token();
        const int64_t n_read = input.n_prompt - (first ? 1 : 0);  // prompt tokens taken from the text
        const int64_t n_needed = n_read + input.n_continuation + 1;
        const auto n_tokens = static_cast<int64_t>(tokens->size());
        if (n_read < 1 || n_tokens < n_needed) {
            return fail(
                fmt::format("{}: has {} tokens, but {} are to be read and {} compared: use a longer text or "
                            "fewer",
                            input.name, n_tokens, input.n_prompt, input.n_continuation));
        }
        const int64_t n_passages = std::min<int64_t>(input.n_samples, n_tokens / n_needed);
        n_all_ -= static_cast<size_t>(input.n_samples - n_passages);
        std::vector<Series> series(settings_.size());
        Result<void> result;
        for (int64_t i = 0; i < n_passages && go_on(); i++) {
            const int64_t begin = n_passages > 1 ? (n_tokens - n_needed) * i / (n_passages - 1) : 0;
            const auto passage = std::span(*tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(n_needed));
            std::vector<Token> prompt;
            if (first) prompt.push_back(*first);
            prompt.append_range(passage.first(static_cast<size_t>(n_read)));
            const auto sums = follow(prompt, passage.subspan(static_cast<size_t>(n_read)));
            if (stopped_) break;
            if (!sums) {
                result = std::unexpected(sums.error());
                break;
            }
            for (size_t s = 0; s < settings_.size(); s++)
                series[s].add((*sums)[s], sums->front(), static_cast<double>(input.n_continuation));
            n_done_++;
        }
        for (size_t s = 1; s < settings_.size() && !series[s].kl.empty(); s++) {
            rows.push_back({.policy = settings_[s].policy,
                            .budget = settings_[s].budget,
                            .subtask = input.name,
                            .length_tokens = input.n_prompt,
                            .n_samples = series[s].kl.size(),
                            .figures = series[s].figures()});
        }
        return result;
    }

    /// Prefills the prompt under every setting, then decodes the continuation token by token. Returns one element per
    /// setting.
    Result<std::vector<Sums>> follow(std::span<const Token> prompt, std::span<const Token> continuation) {
        const auto read = [&](std::span<const Setting> some) {
            return read_for_all(engine_, some, prompt, static_cast<int64_t>(continuation.size()), n_done_,
                                [this](int64_t, int64_t) { return go_on(); });
        };
        auto sequences = read(alike_ ? std::span(settings_) : std::span(settings_).first(1));
        if (!sequences) return std::unexpected(sequences.error());
        if (!alike_) {
            auto others = read(std::span(settings_).subspan(1));
            if (!others) return std::unexpected(others.error());
            std::ranges::move(*others, std::back_inserter(*sequences));
        }
        std::vector<Sums> sums(settings_.size());
        std::vector<Sequence*> batch;
        for (auto& sequence : *sequences) batch.push_back(&sequence);
        for (size_t t = 0; t + 1 < continuation.size() && go_on(); t++) {
            const std::vector<Token> next(batch.size(), continuation[t]);
            if (auto decoded = decode_each(batch, next); !decoded) return std::unexpected(decoded.error());
            const auto full = log_softmax(batch.front()->logits());
            sums.front().add(full, full, continuation[t + 1]);
            for (size_t s = 1; s < batch.size(); s++)
                sums[s].add(full, log_softmax(batch[s]->logits()), continuation[t + 1]);
        }
        return sums;
    }

    const Engine& engine_;
    std::vector<Setting> settings_;  // the full cache first, then the settings to compare
    bool alike_ = true;  // true if all settings have the same cache types, so that one prefill serves them all
    const CountProgress& progress_;
    size_t n_done_ = 0;
    size_t n_all_ = 0;
    bool stopped_ = false;
};

}  // namespace

Outcome fidelity(const Engine& engine, std::span<const FidelityInput> texts, std::span<const Setting> settings,
                 const CountProgress& progress) {
    return Comparison(engine, settings, progress).run(texts);
}

}  // namespace cake::eval
