// Embeddings of each token for each layer in LayerGraph (Gemma 4). They are computed from the token when the
// layer is, so that nothing is kept for the layers that come later.

#include <cmath>

#include "model/layer_graph.hpp"

namespace cake {

/// What the layer gets of the tokens: [n_embd_per_layer, n].
ggml_tensor* LayerGraph::embedding_of_layer(int32_t i, ggml_tensor* tokens) const {
    const int64_t width = hparams_.n_embd_per_layer;
    const auto begin = static_cast<size_t>(i) * static_cast<size_t>(width);
    const auto* all = weights_.per_layer_token_embd;
    ggml_tensor* table = ggml_view_2d(context_, weights_.per_layer_token_embd, width, all->ne[1], all->nb[1],
                                      ggml_row_size(all->type, static_cast<int64_t>(begin)));
    ggml_tensor* looked_up = ggml_get_rows(context_, table, tokens);
    looked_up = ggml_scale(context_, looked_up, std::sqrt(static_cast<float>(width)));

    ggml_tensor* matrix = weights_.per_layer_model_proj;
    matrix = ggml_view_2d(context_, matrix, matrix->ne[0], width, matrix->nb[1], begin * matrix->nb[1]);
    ggml_tensor* projected = ggml_mul_mat(context_, matrix, embed_tokens(tokens));
    projected = ggml_scale(context_, projected, 1 / std::sqrt(static_cast<float>(hparams_.n_embd)));
    projected = normalise(projected, weights_.per_layer_proj_norm);
    return ggml_scale(context_, ggml_add(context_, projected, looked_up), 1 / std::sqrt(2.0F));
}

ggml_tensor* LayerGraph::add_layer_embedding(int32_t i, ggml_tensor* hidden, ggml_tensor* tokens) const {
    const auto& w = layer(i);
    ggml_tensor* x = ggml_gelu(context_, product(w.per_layer_inp_gate, hidden));
    x = product(w.per_layer_proj, ggml_mul(context_, x, embedding_of_layer(i, tokens)));
    return ggml_add(context_, hidden, normalise(x, w.per_layer_post_norm));
}

}  // namespace cake
