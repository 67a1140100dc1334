#include "eval/fidelity.hpp"

#include <algorithm>
#include <cmath>
#include <format>

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

/// One setting on one passage, summed over its tokens.
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

/// By passage, for one setting and text.
struct Series {
    std::vector<double> kl, agreement, surprise;  // surprise: by how many nats a token the truth is less likely

    void add(const Sums& sums, const Sums& full, double n) {
        kl.push_back(sums.kl / n);
        agreement.push_back(sums.agreement / n);
        surprise.push_back((full.log_likelihood - sums.log_likelihood) / n);
    }

    std::vector<Figure> figures() const {
        const auto of_surprise = normal_confidence(surprise);
        return {{.name = "kl", .value = mean(kl), .interval = normal_confidence(kl)},
                {.name = "top1", .value = mean(agreement), .interval = normal_confidence(agreement)},
                {.name = "ppl_ratio",
                 .value = std::exp(mean(surprise)),
                 .interval = Interval{std::exp(of_surprise.low), std::exp(of_surprise.high)}}};
    }
};

/// Reads `prompt` under all settings, the first of which is the full cache, then the continuation token by token.
Result<std::vector<Sums>> compare(const Engine& engine, std::span<const Setting> settings,
                                  std::span<const Token> prompt, std::span<const Token> continuation,
                                  const ProgressFunction& go_on) {
    auto sequences = read_for_all(engine, settings, prompt, static_cast<int64_t>(continuation.size()), go_on);
    if (!sequences) return std::unexpected(sequences.error());
    std::vector<Sums> sums(settings.size());
    for (size_t t = 0; t < continuation.size(); t++) {
        const auto full = log_softmax(sequences->front().logits());
        for (size_t s = 0; s < settings.size(); s++) {
            auto& sequence = (*sequences)[s];
            sums[s].add(full, log_softmax(sequence.logits()), continuation[t]);
            if (t + 1 == continuation.size()) continue;
            if (auto decoded = sequence.decode(continuation[t]); !decoded) return std::unexpected(decoded.error());
        }
    }
    return sums;
}

}  // namespace

Result<std::vector<Row>> fidelity(const Engine& engine, std::span<const FidelityInput> texts,
                                  std::span<const Setting> settings,
                                  const std::function<bool(size_t n_done, size_t n_passages)>& progress) {
    std::vector<Setting> with_full(settings.begin(), settings.end());
    SequenceOptions common = settings.empty() ? SequenceOptions{} : settings.front().options;
    common.policy = "full";
    common.budget.reset();
    with_full.insert(with_full.begin(), {.policy = "full", .budget = 0, .options = common});

    size_t n_passages = 0;
    for (const auto& text : texts) n_passages += static_cast<size_t>(text.n_samples);
    std::vector<Row> rows;
    size_t n_done = 0;
    bool stopped = false;
    const auto go_on = [&](int64_t, int64_t) {
        stopped = stopped || (progress && !progress(n_done, n_passages));
        return !stopped;
    };
    for (const auto& input : texts) {
        const auto tokens = engine.tokenize(input.text);
        if (!tokens) return fail(input.name + ": " + tokens.error().message);
        const int64_t n_needed = input.n_prompt + input.n_continuation;
        const auto n_tokens = static_cast<int64_t>(tokens->size());
        if (n_tokens < n_needed) {
            return fail(
                std::format("{}: has {} tokens and {} are to be read and {} compared: take a longer text or fewer",
                            input.name, n_tokens, input.n_prompt, input.n_continuation));
        }
        std::vector<Series> series(with_full.size());
        for (int32_t i = 0; i < input.n_samples && go_on(0, 0); i++) {
            const int64_t begin = input.n_samples > 1 ? (n_tokens - n_needed) * i / (input.n_samples - 1) : 0;
            const auto passage = std::span(*tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(n_needed));
            const auto n_prompt = static_cast<size_t>(input.n_prompt);
            const auto sums = compare(engine, with_full, passage.first(n_prompt), passage.subspan(n_prompt), go_on);
            if (stopped) break;
            if (!sums) return std::unexpected(sums.error());
            for (size_t s = 0; s < with_full.size(); s++)
                series[s].add((*sums)[s], sums->front(), static_cast<double>(input.n_continuation));
            n_done++;
        }
        for (size_t s = 1; s < with_full.size() && !series[s].kl.empty(); s++) {
            rows.push_back({.policy = with_full[s].policy,
                            .budget = with_full[s].budget,
                            .subtask = input.name,
                            .length_tokens = input.n_prompt,
                            .n_samples = series[s].kl.size(),
                            .figures = series[s].figures()});
        }
        if (stopped) break;
    }
    return rows;
}

}  // namespace cake::eval
