#pragma once

#include <ggml-cpp.h>

#include "model/architecture.hpp"
#include "model/weights.hpp"

namespace cake {

/// What attention reads of n tokens; each token's heads lie together, but not always the tokens.
struct Projections {
    ggml_tensor* query;  // [head_dim_k, n_head, n]
    ggml_tensor* key;    // [head_dim_k, n_head_kv, n]
    ggml_tensor* value;  // [head_dim_v, n_head_kv, n]
};

/// The arithmetic of the model as ggml nodes; the caller places K and V and says what is attended to.
class LayerGraph {
  public:
    LayerGraph(ggml_context* context, const Hparams& hparams, const Weights& weights)
        : context_(context), hparams_(hparams), weights_(weights) {}

    ggml_tensor* embed(ggml_tensor* tokens) const;                           // [n] -> [n_embd, n]
    ggml_tensor* attention_input(int32_t layer, ggml_tensor* hidden) const;  // [n_embd, n], normalised
    Projections project(int32_t layer, ggml_tensor* input, ggml_tensor* positions) const;
    /// `k`, `v`: [head_dim, n_kv, n_head_kv]; `mask`: f16 [n_kv, n], added to the logits, or null. [head_dim_v *
    /// n_head, n]
    ggml_tensor* attend(ggml_tensor* query, ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask) const;
    /// The rest of the layer: output projection and feed-forward, with their residuals. [n_embd, n]
    ggml_tensor* finish(int32_t layer, ggml_tensor* hidden, ggml_tensor* attention) const;
    ggml_tensor* logits(ggml_tensor* hidden) const;  // [n_vocab, n]

    const Hparams& hparams() const { return hparams_; }
    /// 1 / sqrt(head_dim_k), which attention logits are multiplied by.
    static float attention_scale(const Hparams& hparams);

  private:
    ggml_tensor* normalise(ggml_tensor* x, ggml_tensor* weight) const;
    ggml_tensor* product(const Linear& linear, ggml_tensor* x) const;
    ggml_tensor* rotate(ggml_tensor* x, ggml_tensor* positions) const;
    const LayerWeights& layer(int32_t i) const { return weights_.layers[static_cast<size_t>(i)]; }

    ggml_context* context_;
    const Hparams& hparams_;
    const Weights& weights_;
};

}  // namespace cake
