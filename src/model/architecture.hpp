#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "model/gguf_file.hpp"

namespace cake {

/// What distinguishes a model family: traits that the one layer graph reads. A row of the table in architecture.cpp.
struct Architecture {
    std::string_view name;  // general.architecture
    int32_t rope_mode;      // GGML_ROPE_TYPE_*
};

std::span<const Architecture> architectures();

/// A model's hyper-parameters, in GGUF's and llama.cpp's names, checked against each other.
struct Hparams {
    const Architecture* architecture = nullptr;
    std::string name;
    int32_t n_vocab = 0;
    int32_t n_ctx_train = 0;
    int32_t n_embd = 0;
    int32_t n_layer = 0;
    int32_t n_ff = 0;
    int32_t n_head = 0;
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    int32_t n_rot = 0;
    float rms_norm_eps = 0;
    float rope_freq_base = 10000;
    float rope_freq_scale = 1;

    /// Query heads that share a KV head.
    int32_t n_group() const { return n_head / n_head_kv; }
};

/// Reads and checks; an architecture that is not in the table, or a key that would change the arithmetic in a way
/// that is not built, is refused by name.
Result<Hparams> read_hparams(const GgufFile& file);

}  // namespace cake
