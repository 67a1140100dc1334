#include "serving/generation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace cake {

/// Requires the lock and an event.
std::optional<GenerationEvent> EventQueue::take() {
    auto event = std::move(events_.front());
    events_.pop_front();
    if (std::holds_alternative<ChoiceEnded>(event.what) && --n_open_ == 0) told_.notify_all();
    return event;
}

std::optional<GenerationEvent> EventQueue::next(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    if (!told_.wait_for(lock, most, [&] { return !events_.empty(); })) return std::nullopt;
    return take();
}

std::optional<GenerationEvent> EventQueue::next() {
    std::unique_lock lock(mutex_);
    told_.wait(lock, [&] { return !events_.empty() || n_open_ <= 0; });
    if (events_.empty()) return std::nullopt;
    return take();
}

void EventQueue::tell(decltype(GenerationEvent::what) what) {
    {
        const std::scoped_lock lock(mutex_);
        add(std::move(what));
    }
    told_.notify_one();
}

void EventQueue::fail(const Error& error) {
    {
        const std::scoped_lock lock(mutex_);
        for (size_t i = 0; i < is_open_.size(); i++)
            if (is_open_[i])
                add(ChoiceEnded{.choice = static_cast<int32_t>(i), .reason = FinishReason::failed, .error = error});
    }
    told_.notify_all();
}

/// Requires the lock.
void EventQueue::add(decltype(GenerationEvent::what) what) {
    if (const auto* ended = std::get_if<ChoiceEnded>(&what)) is_open_[static_cast<size_t>(ended->choice)] = false;
    events_.push_back({.what = std::move(what), .when = std::chrono::steady_clock::now()});
}

TokenDrawn with_logprobs(int32_t choice, Token token, std::span<const float> logits, int32_t n) {
    TokenDrawn drawn{.choice = choice, .token = token};
    if (n < 0) return drawn;
    const float largest = std::ranges::max(logits);
    double sum = 0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
    const double log_sum = largest + std::log(sum);
    const auto logprob = [&](Token t) {
        return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(t)]) - log_sum);
    };
    drawn.logprob = logprob(token);
    std::vector<Token> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto end = order.begin() + std::min<ptrdiff_t>(n, std::ssize(order));
    std::ranges::partial_sort(order, end, std::greater{}, [&](Token t) { return logits[static_cast<size_t>(t)]; });
    for (auto it = order.begin(); it != end; ++it) drawn.likeliest.push_back({.token = *it, .logprob = logprob(*it)});
    return drawn;
}

TokenDrawn as_drawn(int32_t choice, std::span<const TokenProbability> probabilities) {
    const auto entry = [](const TokenProbability& of) {
        return TokenLogprob{.token = of.token, .logprob = static_cast<float>(std::log(of.probability))};
    };
    const auto own = entry(probabilities.front());
    TokenDrawn drawn{.choice = choice, .token = own.token, .logprob = own.logprob};
    for (const auto& other : probabilities.subspan(1)) drawn.likeliest.push_back(entry(other));
    return drawn;
}

}  // namespace cake
