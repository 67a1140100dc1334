#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/accounted_tensor.hpp"
#include "backend/layer_memory.hpp"

namespace cake {

/// The states of a model's recurrent layers: as many numbers for each, however long the text is.
class RecurrentStates {
  public:
    RecurrentStates() = default;
    /// All numbers are 0, as before a text. `layers`: numbered as in the model, ascending.
    static Result<RecurrentStates> create(Accountant& accountant, const LayerMemory& memory,
                                          std::span<const int32_t> layers, int64_t n_state);

    std::span<const int32_t> layers() const { return layers_; }
    /// The state of a recurrent layer, f32 [n_state].
    ggml_tensor* layer(int32_t layer) const { return views_[static_cast<size_t>(layer)]; }
    /// Overwrites one layer's state, or all, with those of states of the same shape.
    void copy(const RecurrentStates& from, int32_t layer) const;
    void copy(const RecurrentStates& from) const;
    bool is_empty() const { return layers_.empty(); }
    size_t size_bytes() const;
    /// Those on a device; null: the host.
    size_t bytes_on(ggml_backend_dev_t device) const;

  private:
    std::vector<int32_t> layers_;
    std::vector<AccountedTensor> states_;  // [n_state, layers] on each device that has some of the layers
    ggml_context_ptr context_;             // owns the views
    std::vector<ggml_tensor*> views_;      // by layer of the model; null if the layer is not recurrent
};

}  // namespace cake
