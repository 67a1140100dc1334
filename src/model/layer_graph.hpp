#pragma once

#include <ggml-cpp.h>

#include "backend/attention.hpp"
#include "model/hparams.hpp"
#include "model/weights.hpp"

namespace cake {

/// Queries, keys and values of n tokens. The heads of a token are contiguous in memory; the tokens may not be.
struct Projections {
    ggml_tensor* query;            // [head_dim_k, n_head, n]
    ggml_tensor* key;              // [head_dim_k, n_head_kv, n]
    ggml_tensor* value;            // [head_dim_v, n_head_kv, n]
    ggml_tensor* input;            // [n_embd, n] what was projected
    ggml_tensor* unrotated_query;  // [head_dim_k, n_head, n] before RoPE
};

/// Parameters of the attention in a layer of the model.
AttentionTraits attention_traits(const Hparams& hparams, const Weights& weights, int32_t layer);

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
    /// The rest of the layer: output projection and feed-forward, with their residuals. Returns [n_embd, n].
    ggml_tensor* finish(int32_t layer, ggml_tensor* hidden, ggml_tensor* attention) const;
    ggml_tensor* logits(ggml_tensor* hidden) const;  // [n_vocab, n]

    /// RoPE of `x`, [head_dim_k, n_head, n], at `positions`, [n].
    ggml_tensor* rotate(int32_t layer, ggml_tensor* x, ggml_tensor* positions) const;

    AttentionTraits traits(int32_t layer) const { return attention_traits(hparams_, weights_, layer); }

  private:
    ggml_tensor* normalise(ggml_tensor* x, const Norm& norm) const;
    ggml_tensor* product(const Linear& linear, ggml_tensor* x) const;
    ggml_tensor* normalise_heads(ggml_tensor* x, ggml_tensor* weight) const;
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
