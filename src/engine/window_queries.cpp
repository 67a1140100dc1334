#include "engine/window_queries.hpp"

#include <algorithm>
#include <vector>

namespace cake {

WindowQueries::WindowQueries(const SequenceParts& sequence, int64_t n_segment)
    : n_segment_(n_segment),
      n_window_(std::min<int64_t>(sequence.config.options.window, n_segment)),
      first_row_(sequence.cache.queries.next()),
      n_rows_(sequence.config.options.window) {}

ggml_tensor* WindowQueries::store(Graph& graph, std::span<SequenceParts* const> sequences, int32_t layer,
                                  ggml_tensor* query, int64_t begin) const {
    const auto ring = [&](const SequenceParts* sequence) { return sequence->cache.queries.layer(layer); };
    const int64_t end = begin + query->ne[2];
    const int64_t from = std::max(begin, n_segment_ - n_window_);
    if (from >= end || std::ranges::none_of(sequences, ring)) return nullptr;
    ggml_tensor* at = graph.input(GGML_TYPE_I64, end - from);
    ggml_tensor* rows = ggml_view_2d(graph.context(), query, query->ne[0] * query->ne[1], end - from, query->nb[2],
                                     static_cast<size_t>(from - begin) * query->nb[2]);
    for (const SequenceParts* sequence : sequences)
        if (ring(sequence) != nullptr) graph.add(ggml_set_rows(graph.context(), ring(sequence), rows, at));
    return at;
}

void WindowQueries::set_rows(ggml_tensor* at, int64_t end) const {
    std::vector<int64_t> numbers;
    const int64_t in_window = end - at->ne[0] - (n_segment_ - n_window_);
    for (int64_t i = 0; i < at->ne[0]; i++) numbers.push_back((first_row_ + in_window + i) % n_rows_);
    set_input<int64_t>(at, numbers);
}

}  // namespace cake
