#include "text/control_texts.hpp"

#include <llama.h>

#include <algorithm>

namespace cake {

ControlTexts::ControlTexts(const llama_vocab* vocab) {
    for (int32_t token = 0; token < llama_vocab_n_tokens(vocab); token++) {
        const auto attributes = static_cast<uint32_t>(llama_vocab_get_attr(vocab, token));
        if ((attributes & (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) == 0) continue;
        const std::string_view text = llama_vocab_get_text(vocab, token);
        if (text.empty() || !tokens_.try_emplace(std::string(text), token).second) continue;
        for (size_t n = 1; n < text.size(); n++) beginnings_.emplace(text.substr(0, n));
        lengths_.push_back(text.size());
        first_bytes_[static_cast<unsigned char>(text.front())] = true;
    }
    std::ranges::sort(lengths_, std::greater{});
    const auto [repeated, end] = std::ranges::unique(lengths_);
    lengths_.erase(repeated, end);
}

ControlTexts::Found ControlTexts::longest_at(std::string_view text, size_t at) const {
    if (at >= text.size() || !first_bytes_[static_cast<unsigned char>(text[at])]) return {};
    for (const size_t n : lengths_) {
        if (n > text.size() - at) continue;
        const auto found = tokens_.find(text.substr(at, n));
        if (found != tokens_.end()) return {.n_bytes = n, .token = found->second};
    }
    return {};
}

bool ControlTexts::is_begun_by(std::string_view text) const {
    return beginnings_.contains(text);
}

}  // namespace cake
