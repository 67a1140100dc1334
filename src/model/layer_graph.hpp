#pragma once

#include <ggml-cpp.h>

#include <span>
#include <vector>

#include "backend/attention.hpp"
#include "model/hparams.hpp"
#include "model/weights.hpp"

namespace cake {

/// Queries, keys and values of n tokens. The heads of a token are contiguous in memory; the tokens may not be.
struct Projections {
    ggml_tensor* query;  // [head_dim_k, n_head, n]
    ggml_tensor* key;    // [head_dim_k, n_head_kv, n]; null if the layer has no K and V of its own
    ggml_tensor* value;  // [head_dim_v, n_head_kv, n]; also null if V is a part of K
    ggml_tensor* input;  // [n_embd, n] what was projected
    // [head_dim_k, n_head, n] before RoPE. Where a norm with weights follows RoPE, the norm is applied first, which is
    // the same but for the weights.
    ggml_tensor* unrotated_query;
    ggml_tensor* gate = nullptr;  // [head_dim_v * n_head, n] factors of the attention's output; null: none
};

/// What comes out of the attention of a layer.
struct AttentionResult {
    ggml_tensor* attention;         // [head_dim_v * n_head, n]
    ggml_tensor* gate = nullptr;    // Projections::gate
    ggml_tensor* beside = nullptr;  // [n_embd, n] what a recurrence beside it gives; null: none
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
    /// The rest of the layer: output projection and feed-forward, with their residuals. `tokens`: [n], needed only with
    /// Hparams::n_embd_per_layer. Returns [n_embd, n].
    ggml_tensor* finish(int32_t layer, ggml_tensor* hidden, const AttentionResult& result, ggml_tensor* tokens) const;
    /// A recurrence in place of project() and attention, or beside them. `states`: f32 [n_state] for each sequence.
    /// `input`: [n_embd, n], the tokens of the first sequence, then those of the next, equally many of each. Returns
    /// [n_embd, n], to be passed to finish_recurrent(). Appends to `writes` the nodes that bring the states up to date.
    ggml_tensor* recur(int32_t layer, ggml_tensor* input, std::span<ggml_tensor* const> states,
                       std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* finish_recurrent(int32_t layer, ggml_tensor* hidden, ggml_tensor* mixed) const;
    ggml_tensor* logits(ggml_tensor* hidden) const;  // [n_vocab, n]

    /// RoPE of the first n_rot rows of `x`, [rows, n_head, n], at `positions`, [n].
    ggml_tensor* rotate(int32_t layer, ggml_tensor* x, ggml_tensor* positions) const;

    AttentionTraits traits(int32_t layer) const { return attention_traits(hparams_, weights_, layer); }

  private:
    ggml_tensor* embed_tokens(ggml_tensor* tokens) const;
    ggml_tensor* normalise(ggml_tensor* x, const Norm& norm) const;
    ggml_tensor* product(const Linear& linear, ggml_tensor* x) const;
    ggml_tensor* normalise_heads(ggml_tensor* x, ggml_tensor* weight) const;
    ggml_tensor* scale(ggml_tensor* x, float factor) const;
    ggml_tensor* temperature(ggml_tensor* positions) const;
    ggml_tensor* coordinates(ggml_tensor* positions) const;

    ggml_tensor* add_to_residual(int32_t layer, ggml_tensor* hidden, ggml_tensor* added) const;

    // In layer_embedding.cpp.
    ggml_tensor* embedding_of_layer(int32_t layer, ggml_tensor* tokens) const;
    ggml_tensor* add_layer_embedding(int32_t layer, ggml_tensor* hidden, ggml_tensor* tokens) const;

    // In recurrent_graph.cpp. `x`: [n_channels, n]; `state`: f32 [n_state].
    ggml_tensor* convolve(const LayerWeights& w, ggml_tensor* x, ggml_tensor* state,
                          std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* short_convolution(const LayerWeights& w, ggml_tensor* input, std::span<ggml_tensor* const> states,
                                   std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* delta_net(const LayerWeights& w, ggml_tensor* input, std::span<ggml_tensor* const> states,
                           std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* mamba2(const LayerWeights& w, ggml_tensor* input, std::span<ggml_tensor* const> states,
                        std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* selective_scan(const LayerWeights& w, ggml_tensor* mixed, ggml_tensor* steps, ggml_tensor* state,
                                ggml_tensor* index, std::vector<ggml_tensor*>& writes) const;
    ggml_tensor* recurrent_heads(ggml_tensor* mixed, int64_t dim, int64_t n_head, int64_t first_row) const;
    ggml_tensor* state_matrices(ggml_tensor* state) const;
    ggml_tensor* unpack(ggml_tensor* packed, int64_t n, ggml_tensor* state, std::vector<ggml_tensor*>& writes) const;
    struct DeltaInput;
    DeltaInput delta_input(const LayerWeights& w, ggml_tensor* input) const;
    ggml_tensor* by_group(ggml_tensor* x, int64_t begin, int64_t n_rows) const;
    ggml_tensor* for_each_value(ggml_tensor* x) const;
    ggml_tensor* delta_rule(ggml_tensor* mixed, ggml_tensor* decay, ggml_tensor* beta, ggml_tensor* state,
                            std::vector<ggml_tensor*>& writes) const;

    // In latent_graph.cpp.
    Projections project_latent(int32_t layer, ggml_tensor* input, ggml_tensor* positions) const;
    ggml_tensor* latent_queries(const LayerWeights& w, ggml_tensor* nope) const;
    ggml_tensor* latent_output(int32_t layer, ggml_tensor* attention) const;

    // In feed_forward_graph.cpp. `x` is [n_embd, n].
    ggml_tensor* feed_forward(int32_t layer, ggml_tensor* x) const;
    ggml_tensor* mix_experts(int32_t layer, ggml_tensor* x, ggml_tensor* chooser) const;
    ggml_tensor* dense_beside_experts(int32_t layer, ggml_tensor* hidden) const;
    ggml_tensor* scale_experts(const LayerWeights& w, ggml_tensor* out, ggml_tensor* chosen) const;
    ggml_tensor* shared_experts(int32_t layer, ggml_tensor* x) const;
    ggml_tensor* gated_product(int32_t layer, const Linear& gate, const Linear& up, const Linear& down,
                               ggml_tensor* x) const;
    ggml_tensor* activate(int32_t layer, ggml_tensor* gate, ggml_tensor* up) const;
    ggml_tensor* expert_scores(const LayerWeights& w, ggml_tensor* chooser) const;
    ggml_tensor* choose_experts(const LayerWeights& w, ggml_tensor* scores) const;
    ggml_tensor* without_weak_groups(ggml_tensor* scores) const;
    ggml_tensor* expert_weights(ggml_tensor* scores, ggml_tensor* chosen) const;
    ggml_tensor* expert_product(const Linear& linear, ggml_tensor* x, ggml_tensor* chosen) const;

    const LayerWeights& layer(int32_t i) const { return weights_.layers[static_cast<size_t>(i)]; }

    ggml_context* context_;
    const Hparams& hparams_;
    const Weights& weights_;
};

}  // namespace cake
