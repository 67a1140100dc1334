#include "model/output_weights.hpp"

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <string>

namespace cake {

namespace {

/// The values of a tensor, as float32.
Result<std::vector<float>> read_floats(const GgufFile& file, const std::string& name) {
    const ggml_tensor* tensor = file.tensor(name);
    if (tensor == nullptr) return fail(Error::Code::unsupported, fmt::format("the model has no tensor {}", name));
    std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
    const auto data = file.data(tensor);
    if (tensor->type == GGML_TYPE_F32)
        std::memcpy(values.data(), data.data(), data.size());
    else
        ggml_get_type_traits(tensor->type)->to_float(data.data(), values.data(), std::ssize(values));
    return values;
}

/// The output projection after that of latent values: [n_lora_kv * n_head, n_embd]. `output`: [head_dim_v * n_head,
/// n_embd]; `values`: [n_lora_kv, head_dim_v, n_head].
std::vector<float> of_latent_values(const Hparams& h, std::span<const float> output, std::span<const float> values) {
    const auto n_latent = static_cast<size_t>(h.latent.n_lora_kv);
    const auto n_values = static_cast<size_t>(h.latent.head_dim_v) * static_cast<size_t>(h.n_head);
    const size_t width = n_latent * static_cast<size_t>(h.n_head);
    std::vector<float> product(width * static_cast<size_t>(h.n_embd), 0.0F);
    for (size_t row = 0; row < static_cast<size_t>(h.n_embd); row++) {
        for (size_t i = 0; i < n_values; i++) {
            const float factor = output[row * n_values + i];
            float* sums = product.data() + row * width + i / static_cast<size_t>(h.latent.head_dim_v) * n_latent;
            for (size_t j = 0; j < n_latent; j++) sums[j] += factor * values[i * n_latent + j];
        }
    }
    return product;
}

}  // namespace

Result<std::vector<float>> read_output_weights(const GgufFile& file, const Hparams& hparams, int32_t layer) {
    auto output = read_floats(file, fmt::format("blk.{}.attn_output.weight", hparams.blocks_of(layer).mixer));
    if (!output || !hparams.has_latent()) return output;
    const auto values = read_floats(file, fmt::format("blk.{}.attn_v_b.weight", layer));
    if (!values) return std::unexpected(values.error());
    return of_latent_values(hparams, *output, *values);
}

}  // namespace cake
