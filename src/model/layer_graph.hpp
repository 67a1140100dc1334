#pragma once

#include <ggml-cpp.h>

#include "model/hparams.hpp"
#include "model/weights.hpp"

namespace cake {

/// Queries, keys and values of n tokens. The heads of a token are contiguous in memory; the tokens may not be.
struct Projections {
    ggml_tensor* query;  // [head_dim_k, n_head, n]
    ggml_tensor* key;    // [head_dim_k, n_head_kv, n]
    ggml_tensor* value;  // [head_dim_v, n_head_kv, n]
};

/// Parameters of a layer's attention.
struct AttentionTraits {
    float scale = 1;               // factor of the logits
    float softcap = 0;             // logits x become softcap * tanh(x / softcap); 0: no cap
    int64_t window = 0;            // tokens that a query sees, including its own; 0: all up to its own
    ggml_tensor* sinks = nullptr;  // f32 [n_head] logits that take part in the softmax but have no value, or null
};

/// The arithmetic of the model as ggml nodes. The caller stores K and V and decides what is attended to.
class LayerGraph {
  public:
    LayerGraph(ggml_context* context, const Hparams& hparams, const Weights& weights)
        : context_(context), hparams_(hparams), weights_(weights) {}
    /// Upper bound of the number of nodes of a layer, even if attention is computed one KV head at a time.
    static size_t max_nodes(const Hparams& hparams);

    ggml_tensor* embed(ggml_tensor* tokens, ggml_tensor* positions) const;   // [n], [n] -> [n_embd, n]
    ggml_tensor* attention_input(int32_t layer, ggml_tensor* hidden) const;  // [n_embd, n]
    Projections project(int32_t layer, ggml_tensor* input, ggml_tensor* positions) const;
    /// Attention of the query heads from `first_head` on. `k`, `v`: [head_dim, n_kv, n_head_kv]; `mask`: f16 [n_kv, n],
    /// added to the logits, or null. Returns [head_dim_v * n_head, n].
    ggml_tensor* attend(int32_t layer, int64_t first_head, ggml_tensor* query, ggml_tensor* k, ggml_tensor* v,
                        ggml_tensor* mask) const;
    /// The rest of the layer: output projection and feed-forward, with their residuals. Returns [n_embd, n].
    ggml_tensor* finish(int32_t layer, ggml_tensor* hidden, ggml_tensor* attention) const;
    ggml_tensor* logits(ggml_tensor* hidden) const;  // [n_vocab, n]

    const Hparams& hparams() const { return hparams_; }
    AttentionTraits attention_traits(int32_t layer) const;

  private:
    ggml_tensor* normalise(ggml_tensor* x, const Norm& norm) const;
    ggml_tensor* product(const Linear& linear, ggml_tensor* x) const;
    ggml_tensor* normalise_heads(ggml_tensor* x, ggml_tensor* weight) const;
    ggml_tensor* rotate(int32_t layer, ggml_tensor* x, ggml_tensor* positions) const;
    ggml_tensor* activate(ggml_tensor* gate, ggml_tensor* up) const;
    ggml_tensor* feed_forward(const LayerWeights& w, ggml_tensor* x) const;
    ggml_tensor* mix_experts(const LayerWeights& w, ggml_tensor* x) const;
    ggml_tensor* expert_product(const Linear& linear, ggml_tensor* x, ggml_tensor* chosen) const;
    ggml_tensor* scale(ggml_tensor* x, float factor) const;
    const LayerWeights& layer(int32_t i) const { return weights_.layers[static_cast<size_t>(i)]; }

    ggml_context* context_;
    const Hparams& hparams_;
    const Weights& weights_;
};

}  // namespace cake
