#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/accounted_tensor.hpp"

namespace cake {

/// The states of a model's recurrent layers: as many numbers for each, however long the text is.
class RecurrentStates {
  public:
    RecurrentStates() = default;
    /// All numbers are 0, as before a text. `layers`: numbered as in the model, ascending.
    static Result<RecurrentStates> create(Accountant& accountant, ggml_backend_buffer_type_t type,
                                          std::span<const int32_t> layers, int64_t n_state);

    std::span<const int32_t> layers() const { return layers_; }
    /// The state of a recurrent layer, f32 [n_state].
    ggml_tensor* layer(int32_t layer) const { return views_[static_cast<size_t>(layer)]; }
    /// Overwrites one layer's state, or all, with those of states of the same shape.
    void copy(const RecurrentStates& from, int32_t layer) const;
    void copy(const RecurrentStates& from) const;
    size_t size_bytes() const { return states_.get() == nullptr ? 0 : ggml_nbytes(states_.get()); }
    /// All states, f32 [n_state, number of recurrent layers]; null if there are none.
    ggml_tensor* all() const { return states_.get(); }

  private:
    std::vector<int32_t> layers_;
    AccountedTensor states_;
    ggml_context_ptr context_;         // owns the views
    std::vector<ggml_tensor*> views_;  // by layer of the model; null if the layer is not recurrent
};

}  // namespace cake
