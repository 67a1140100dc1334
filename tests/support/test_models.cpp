#include "support/test_models.hpp"

#include <format>
#include <stdexcept>

namespace cake::test {

std::vector<Token> sample_tokens(const Engine& engine, size_t n) {
    std::string text;
    std::vector<Token> tokens;
    for (size_t day = 1; tokens.size() < n; day++) {
        for (size_t i = 0; i < 40; i++, day++) {
            text += std::format("On day {} the {} crossed the {} river and {} of them came back. ", day * 7919 % 1009,
                                day % 3 == 0 ? "riders" : "whalers", day % 5 == 0 ? "frozen" : "wide", day * day % 83);
        }
        auto result = engine.tokenize(text);
        if (!result) throw std::runtime_error(result.error().message);
        tokens = std::move(*result);
    }
    tokens.resize(n);
    return tokens;
}

}  // namespace cake::test
