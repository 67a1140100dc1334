#include "text/reasoning_budget.hpp"

#include <utility>

#include "text/white_space.hpp"

namespace cake {

ReasoningBudget::ReasoningBudget(const Vocabulary& vocabulary, ReasoningLimit limit)
    : vocabulary_(vocabulary), limit_(std::move(limit)), place_(limit_.is_begun ? Place::inside : Place::before) {
    const auto tokens = vocabulary.tokenize(limit_.ending, {.around = false, .written_out = true});
    if (tokens) ending_ = *tokens;
    if (ending_.empty()) place_ = Place::behind;
}

std::optional<int32_t> ReasoningBudget::forced() const {
    if (place_ != Place::inside || n_tokens_ < limit_.max_tokens) return std::nullopt;
    return ending_[n_forced_];
}

void ReasoningBudget::take(int32_t token) {
    if (place_ == Place::behind) return;
    if (forced()) {
        if (++n_forced_ == ending_.size()) place_ = Place::behind;
        return;
    }
    text_ += vocabulary_.piece(token, true);
    if (place_ == Place::inside) {
        n_tokens_++;
        if (text_.contains(limit_.end)) place_ = Place::behind;
        return;
    }
    size_t n_spaces = 0;
    while (n_spaces < text_.size() && is_space(text_[n_spaces])) n_spaces++;
    text_.erase(0, n_spaces);
    if (text_.starts_with(limit_.begin)) {
        place_ = Place::inside;
    } else if (!limit_.begin.starts_with(text_)) {
        place_ = Place::behind;
    }
}

}  // namespace cake
