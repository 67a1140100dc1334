#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <span>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/layer_memory.hpp"

namespace cake {

/// The queries of the last W tokens in several layers, across segments. All layers advance together: row r holds the
/// same token in each of them.
class QueryRing {
  public:
    QueryRing() = default;
    /// `layers`: numbers of the layers that have a ring, as in the model; `width`: values in the query of a token, all
    /// heads.
    static Result<QueryRing> create(Accountant& accountant, const LayerMemory& memory, std::span<const int32_t> layers,
                                    int64_t width, int64_t window);

    /// True if queries are kept.
    bool is_kept() const { return !buffers_.empty(); }
    /// The queries of a layer, f32 [width, window]; null if it has no ring.
    ggml_tensor* layer(int32_t layer) const;

    int64_t n_rows() const { return n_rows_; }
    int32_t n_filled() const { return n_filled_; }
    int32_t next() const { return next_; }                                      // row of the next query
    int64_t oldest() const { return (next_ - n_filled_ + n_rows_) % n_rows_; }  // row of the oldest query
    /// Number of queries pushed after the one in `row`: 0 for the newest. At least n_filled() for an empty row.
    int64_t age(int64_t row) const { return (next_ - 1 - row + n_rows_) % n_rows_; }

    /// Advances the ring by `n` queries; the caller writes them, beginning at row next().
    void push(int64_t n);
    /// Removes the last `n` queries. The queries that they overwrote are not restored.
    void pop(int64_t n);
    /// Takes over the queries of a ring with the same layers and size.
    void copy(const QueryRing& from);
    /// Restores a saved state. `n_filled` is at most the window, and `next` is less than it.
    void restore(int32_t n_filled, int32_t next);

  private:
    Result<void> add(Accountant& accountant, ggml_backend_buffer_type_t type, std::span<const int32_t> layers,
                     int64_t width);

    std::vector<AccountedBuffer> buffers_;  // one on each device that has some of the layers
    ggml_context_ptr context_;
    std::vector<ggml_tensor*> layers_;  // by layer number; null if it has no ring
    int64_t n_rows_ = 1;
    int32_t n_filled_ = 0;
    int32_t next_ = 0;
};

}  // namespace cake
