#pragma once

#include <ggml.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cake::test {

struct ReferenceOptions {
    ggml_type cache_type = GGML_TYPE_F16;
    bool repack = true;  // use llama.cpp's preferred weight layouts, as with EngineOptions::repack; the AMX, repacked
                         // and plain layouts differ in their arithmetic
};

/// Runs a text through llama.cpp on the CPU piece by piece. With a large vocabulary, the logits of the whole text would
/// take too much memory.
class LlamaReader {
  public:
    LlamaReader(const std::string& model, size_t n_ctx, const ReferenceOptions& options);
    LlamaReader(LlamaReader&&) noexcept;
    ~LlamaReader();

    /// Appends tokens and returns the logits after each of them, [n_vocab, n].
    std::vector<float> read(std::span<const int32_t> tokens);
    /// Removes the tokens [from, to) from the cache of every layer.
    void drop(int32_t from, int32_t to);

  private:
    struct Llama;
    std::unique_ptr<Llama> llama_;
    int32_t n_read_ = 0;
};

/// llama.cpp's logits after each token of a text, [n_vocab, n].
std::vector<float> llama_logits(const std::string& model, std::span<const int32_t> tokens,
                                const ReferenceOptions& options = {});

/// llama.cpp's logits after `next`, with f16 K/V. Tokens [from, to) are removed from the cache of every layer after the
/// prefill of `tokens`.
std::vector<float> llama_logits_without(const std::string& model, std::span<const int32_t> tokens, int32_t from,
                                        int32_t to, int32_t next);

/// KL(reference || other) for one token, in nats. Both are logits, [n_vocab].
double kl(std::span<const float> reference, std::span<const float> other);
/// Mean KL(reference || other) over tokens, in nats. Both are logits, [n_vocab, n].
double mean_kl(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

/// Largest difference, over all tokens, between the reference's top logit and its logit for the most likely token of
/// `other`. 0 if all greedy choices agree.
double greedy_regret(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

}  // namespace cake::test
