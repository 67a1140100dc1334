#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <span>
#include <vector>

#include "memory/accountant.hpp"

namespace cake {

/// The queries of the last W tokens in each of several layers, whatever segment they were read in. All layers fill in
/// step: row r holds the same token in each.
class QueryRing {
  public:
    QueryRing() = default;
    /// `layers`: numbers of the layers that have a ring, as in the model; `width`: values of a query, all heads.
    static Result<QueryRing> create(Accountant& accountant, ggml_backend_buffer_type_t type,
                                    std::span<const int32_t> layers, int64_t width, int64_t window);

    /// Whether queries are kept at all.
    bool is_kept() const { return buffer_.size_bytes() > 0; }
    /// The queries of a layer, f32 [width, window]; null if it has no ring.
    ggml_tensor* layer(int32_t layer) const;

    int64_t n_rows() const { return n_rows_; }
    int32_t n_filled() const { return n_filled_; }
    int32_t next() const { return next_; }  // row that the next query goes to
    /// Rows since the query in `row` was pushed: 0 for the newest. At least n_filled() for a row that holds none.
    int64_t age(int64_t row) const { return (next_ - 1 - row + n_rows_) % n_rows_; }

    /// Takes the rows of `n` more queries; the first of them goes to the row that was next().
    void push(int64_t n);
    /// Forgets the last `n`. What they had replaced does not come back.
    void pop(int64_t n);
    /// Goes on from a saved state. Both are within [0, window].
    void restore(int32_t n_filled, int32_t next);

  private:
    AccountedBuffer buffer_;
    ggml_context_ptr context_;
    std::vector<ggml_tensor*> layers_;  // by number of the layer
    int64_t n_rows_ = 1;
    int32_t n_filled_ = 0;
    int32_t next_ = 0;
};

}  // namespace cake
