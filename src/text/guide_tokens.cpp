#include "text/guide_tokens.hpp"

#include <cake_bridge.h>
#include <llama.h>

#include <string>
#include <vector>

#include "text/bridge_text.hpp"
#include "text/vocabulary.hpp"

namespace cake {

Result<std::shared_ptr<const GuideTokens>> GuideTokens::make(const Vocabulary& vocabulary) {
    constexpr char kWithoutText = '\xFF';  // begins a token that no text contains
    std::string bytes;
    std::vector<size_t> ends;
    std::vector<uint32_t> end_tokens;
    for (int32_t token = 0; token < vocabulary.n_tokens(); token++) {
        const bool is_end = vocabulary.is_end_of_generation(token);
        if (is_end) end_tokens.push_back(static_cast<uint32_t>(token));
        if (vocabulary.has_text(token))
            bytes += vocabulary.piece(token);
        else
            bytes += kWithoutText + vocabulary.piece(token, true);
        ends.push_back(bytes.size());
    }
    const CakeTokens source{.bytes = bytes.data(),
                            .ends = ends.data(),
                            .n = ends.size(),
                            .end_tokens = end_tokens.data(),
                            .n_end_tokens = end_tokens.size()};
    BridgeText message;
    auto* made = cake_guide_tokens(&source, message.out());
    if (made == nullptr)
        return fail(Error::Code::unsupported, "the vocabulary cannot be constrained: " + message.text());
    return std::shared_ptr<const GuideTokens>(
        new GuideTokens(made, ends.size(), static_cast<int32_t>(end_tokens.front())));
}

GuideTokens::~GuideTokens() {
    cake_free_guide_tokens(tokens_);
}

Result<std::shared_ptr<const GuideTokens>> SharedGuideTokens::get(const Vocabulary& vocabulary) {
    const std::lock_guard lock(mutex_);
    if (tokens_) return tokens_;
    auto made = GuideTokens::make(vocabulary);
    if (made) tokens_ = *made;
    return made;
}

}  // namespace cake
