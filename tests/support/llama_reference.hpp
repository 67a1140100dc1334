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
    bool repack = true;  // weights in the layouts that llama.cpp prefers, as EngineOptions::repack has it: AMX, the
                         // repacked and the plain one differ in their arithmetic
};

/// A text that llama.cpp reads on the CPU, piece by piece: the logits of a large vocabulary are not to be held at once.
class LlamaReader {
  public:
    LlamaReader(const std::string& model, size_t n_ctx, const ReferenceOptions& options);
    LlamaReader(LlamaReader&&) noexcept;
    ~LlamaReader();

    /// Logits after each of the next tokens, [n_vocab, n].
    std::vector<float> read(std::span<const int32_t> tokens);
    /// Forgets what every layer holds of the tokens [from, to).
    void drop(int32_t from, int32_t to);

  private:
    struct Llama;
    std::unique_ptr<Llama> llama_;
    int32_t n_read_ = 0;
};

/// llama.cpp's logits after each token of a text, [n_vocab, n].
std::vector<float> llama_logits(const std::string& model, std::span<const int32_t> tokens,
                                const ReferenceOptions& options = {});

/// llama.cpp's logits after `next`, when tokens [from, to) were dropped from every layer's cache after reading
/// `tokens`; f16 K/V.
std::vector<float> llama_logits_without(const std::string& model, std::span<const int32_t> tokens, int32_t from,
                                        int32_t to, int32_t next);

/// KL(reference || other) of a token, in nats; both are logits, [n_vocab].
double kl(std::span<const float> reference, std::span<const float> other);
/// Its mean over tokens, [n_vocab, n].
double mean_kl(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

/// The largest amount, over the tokens, by which the other's likeliest successor is less likely to the reference than
/// the reference's own, as a difference of logits: 0 where greedy choices agree everywhere.
double greedy_regret(std::span<const float> reference, std::span<const float> other, size_t n_vocab);

}  // namespace cake::test
