#include "engine/query_moments.hpp"

#include <algorithm>
#include <cmath>

#include "method/pinned.hpp"

namespace cake {

void LayerMoments::add_nodes(Graph& graph, ggml_tensor* queries, int64_t position) {
    const int64_t n_skipped = std::clamp<int64_t>(kSinks - position, 0, queries->ne[2]);
    n_ = queries->ne[2] - n_skipped;
    if (n_ == 0) return;
    auto* context = graph.context();
    ggml_tensor* counted = ggml_view_3d(context, queries, queries->ne[0], queries->ne[1], n_, queries->nb[1],
                                        queries->nb[2], static_cast<size_t>(n_skipped) * queries->nb[2]);
    ggml_tensor* by_token = ggml_cont(context, ggml_permute(context, counted, 1, 2, 0, 3));  // [n, head_dim_k, n_head]
    mean_ = graph.output(ggml_mean(context, by_token));
    ggml_tensor* centred = ggml_sub(context, by_token, mean_);
    products_ = graph.output(ggml_mul_mat(context, centred, centred));
}

void LayerMoments::take() {
    if (n_ == 0) return;
    std::vector<float> means(static_cast<size_t>(ggml_nelements(mean_)));
    std::vector<float> products(static_cast<size_t>(ggml_nelements(products_)));
    ggml_backend_tensor_get(mean_, means.data(), 0, ggml_nbytes(mean_));
    ggml_backend_tensor_get(products_, products.data(), 0, ggml_nbytes(products_));
    const auto dim = static_cast<size_t>(hparams_.head_dim_k);
    for (int32_t head = 0; head < hparams_.n_head; head++) {
        const auto i = static_cast<size_t>(head);
        moments_.merge(head, n_, std::span(means).subspan(i * dim, dim),
                       std::span(products).subspan(i * dim * dim, dim * dim));
    }
    n_ = 0;
}

/// The mean of the rotations, found by rotating a vector of ones: a pair of elements becomes (cos − sin, cos + sin).
Result<std::vector<float>> LayerMoments::mean_rotation(GraphRunner& runner, const Weights& weights, int32_t layer,
                                                       int64_t position) const {
    const auto dim = static_cast<size_t>(hparams_.head_dim_k);
    std::vector<float> rotation(dim * dim, 0.0F);
    for (size_t i = 0; i < dim; i++) rotation[i * dim + i] = 1;
    if (!hparams_.rotates_in(layer)) return rotation;

    Graph graph(16);
    ggml_tensor* positions = graph.input(GGML_TYPE_I32, kFuture);
    ggml_tensor* ones = graph.input(GGML_TYPE_F32, hparams_.n_rot, kFuture);
    ggml_tensor* rotated =
        graph.output(LayerGraph(graph.context(), hparams_, weights)
                         .rotate(layer, ggml_reshape_3d(graph.context(), ones, ones->ne[0], 1, kFuture), positions));
    if (auto allocated = runner.allocate(graph); !allocated) return std::unexpected(allocated.error());
    set_numbers<int32_t>(positions, position);
    const auto n_rot = static_cast<size_t>(hparams_.n_rot);
    std::vector<float> values(n_rot * kFuture, 1.0F);
    set_input<float>(ones, values);
    if (auto computed = runner.compute(graph); !computed) return std::unexpected(computed.error());
    ggml_backend_tensor_get(rotated, values.data(), 0, values.size() * sizeof(float));
    std::vector<double> mean(n_rot, 0.0);
    for (size_t i = 0; i < values.size(); i++) mean[i % n_rot] += static_cast<double>(values[i]) / kFuture;

    const auto begin = static_cast<size_t>(hparams_.rot_begin());
    const bool pairs = hparams_.rope_mode == GGML_ROPE_TYPE_NORMAL;
    for (size_t i = 0; i < n_rot / 2; i++) {
        const size_t first = pairs ? 2 * i : i;
        const size_t second = pairs ? 2 * i + 1 : i + n_rot / 2;
        const auto cosine = static_cast<float>((mean[first] + mean[second]) / 2);
        const auto sine = static_cast<float>((mean[second] - mean[first]) / 2);
        const size_t row = begin + first;
        const size_t other = begin + second;
        rotation[row * dim + row] = rotation[other * dim + other] = cosine;
        rotation[row * dim + other] = -sine;
        rotation[other * dim + row] = sine;
    }
    return rotation;
}

Result<ExpectedQueries> LayerMoments::expected(GraphRunner& runner, const Weights& weights, int32_t layer,
                                               int64_t position) const {
    const auto rotation = mean_rotation(runner, weights, layer, position);
    if (!rotation) return std::unexpected(rotation.error());
    // The scorer divides logits by √head_dim; a model may scale them otherwise.
    const float factor =
        hparams_.attention_scale * std::sqrt(static_cast<float>(hparams_.head_dim_k)) * hparams_.temperature(position);
    ExpectedQueries result;
    const int32_t n_group = hparams_.n_head / hparams_.n_head_kv;
    for (int32_t head = 0; head < hparams_.n_head; head++) {
        if (head % n_group == 0) {
            result.means.emplace_back();
            result.covariances.emplace_back();
        }
        for (const float x : rotated_mean(moments_.mean(head), *rotation)) result.means.back().push_back(x * factor);
        for (const float x : rotated_covariance(moments_.covariance(head), *rotation))
            result.covariances.back().push_back(x * factor * factor);
    }
    return result;
}

}  // namespace cake
