#include "model/weights.hpp"

#include <array>
#include <format>
#include <string>

namespace cake {

namespace {

LayerWeights take_layer(TensorLoader& tensors, const Hparams& h, int32_t layer) {
    const int64_t q = static_cast<int64_t>(h.head_dim_k) * h.n_head;
    const int64_t k = static_cast<int64_t>(h.head_dim_k) * h.n_head_kv;
    const int64_t v = static_cast<int64_t>(h.head_dim_v) * h.n_head_kv;
    const int64_t o = static_cast<int64_t>(h.head_dim_v) * h.n_head;
    const auto name = [layer](const char* rest) { return std::format("blk.{}.{}", layer, rest); };
    LayerWeights w{
        .attn_norm = tensors.required(name("attn_norm.weight"), {h.n_embd}, TensorUse::vector),
        .attn_q = tensors.linear(name("attn_q"), h.n_embd, q),
        .attn_k = tensors.linear(name("attn_k"), h.n_embd, k),
        .attn_v = tensors.linear(name("attn_v"), h.n_embd, v),
        .attn_output = tensors.linear(name("attn_output"), o, h.n_embd),
        .ffn_norm = tensors.required(name("ffn_norm.weight"), {h.n_embd}, TensorUse::vector),
        .ffn_gate = tensors.linear(name("ffn_gate"), h.n_embd, h.n_ff),
        .ffn_up = tensors.linear(name("ffn_up"), h.n_embd, h.n_ff),
        .ffn_down = tensors.linear(name("ffn_down"), h.n_ff, h.n_embd),
    };
    tensors.join(std::array{&w.attn_q, &w.attn_k, &w.attn_v});
    tensors.join(std::array{&w.ffn_gate, &w.ffn_up});
    return w;
}

}  // namespace

Result<Weights> load_weights(const GgufFile& file, Hparams& hparams, const Compute& compute, bool repack) {
    const ggml_tensor* embeddings = file.tensor("token_embd.weight");
    if (embeddings == nullptr) {
        return fail(file.path() + (gguf_get_n_tensors(file.metadata()) == 0
                                       ? ": holds a vocabulary but no weights; name the file of a whole model"
                                       : ": the tensor token_embd.weight is missing"));
    }
    if (embeddings->ne[1] > (1 << 26)) return fail(file.path() + ": the tensor token_embd.weight has too many rows");
    hparams.n_vocab = static_cast<int32_t>(embeddings->ne[1]);

    TensorLoader tensors(file, compute, repack);
    const auto& h = hparams;
    Weights weights;
    weights.token_embd = tensors.required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::table);
    weights.output_norm = tensors.required("output_norm.weight", {h.n_embd}, TensorUse::vector);
    weights.output = tensors.optional("output.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix);
    if (weights.output == nullptr)
        weights.output = tensors.required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix);
    weights.rope_freqs = tensors.optional("rope_freqs.weight", {h.n_rot / 2}, TensorUse::vector);
    for (int32_t layer = 0; layer < h.n_layer; layer++) weights.layers.push_back(take_layer(tensors, h, layer));
    tensors.refuse_unused(std::format("the architecture {} with {} layers", h.architecture->name, h.n_layer));
    auto loaded = tensors.load();
    if (!loaded) return std::unexpected(loaded.error());
    weights.tensors = std::move(*loaded);
    return weights;
}

}  // namespace cake
