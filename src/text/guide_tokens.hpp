#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "cake/error.hpp"

struct CakeGuideTokens;

namespace cake {

class Vocabulary;

/// A vocabulary as llguidance needs it. Takes about 0.2 seconds to make and some 20 MB for 150,000 tokens.
class GuideTokens {
  public:
    static Result<std::shared_ptr<const GuideTokens>> make(const Vocabulary& vocabulary);
    GuideTokens(const GuideTokens&) = delete;
    GuideTokens& operator=(const GuideTokens&) = delete;
    ~GuideTokens();

    const CakeGuideTokens* get() const { return tokens_; }
    size_t n_tokens() const { return n_tokens_; }
    int32_t end_token() const { return end_token_; }  // one of those that end a text

  private:
    GuideTokens(CakeGuideTokens* tokens, size_t n_tokens, int32_t end_token)
        : tokens_(tokens), n_tokens_(n_tokens), end_token_(end_token) {}

    CakeGuideTokens* tokens_;
    size_t n_tokens_;
    int32_t end_token_;
};

/// The tokens of one vocabulary, made on first use. May be used by several threads at once.
class SharedGuideTokens {
  public:
    Result<std::shared_ptr<const GuideTokens>> get(const Vocabulary& vocabulary);

  private:
    std::mutex mutex_;
    std::shared_ptr<const GuideTokens> tokens_;
};

}  // namespace cake
