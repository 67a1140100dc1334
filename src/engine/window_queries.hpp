#pragma once

#include <span>

#include "backend/graph.hpp"
#include "engine/sequence_parts.hpp"

namespace cake {

/// Copies the queries of a segment's last tokens, its window, into the rings of the sequences that read it.
class WindowQueries {
  public:
    WindowQueries() = default;
    /// `sequence`: one of the sequences, before its ring advances.
    WindowQueries(const SequenceParts& sequence, int64_t n_segment);

    int64_t n_window() const { return n_window_; }
    /// Adds nodes for a chunk of tokens that begins at `begin` in the segment. Returns the graph input for their row
    /// numbers, or null if there is nothing to copy. `query`: [head_dim_k, n_head, n].
    ggml_tensor* store(Graph& graph, std::span<SequenceParts* const> sequences, int32_t layer, ggml_tensor* query,
                       int64_t begin) const;
    /// Sets `at` to the ring rows of the tokens before `end`, one for each element.
    void set_rows(ggml_tensor* at, int64_t end) const;

  private:
    int64_t n_segment_ = 0;
    int64_t n_window_ = 0;
    int64_t first_row_ = 0;  // row of the window's first query
    int64_t n_rows_ = 1;     // number of rows of a ring
};

}  // namespace cake
