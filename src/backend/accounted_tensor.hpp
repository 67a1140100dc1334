#pragma once

#include <cstdint>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/layer_memory.hpp"

namespace cake {

/// A tensor in a buffer of its own, which outlives the graphs that use it.
class AccountedTensor {
  public:
    AccountedTensor() = default;
    /// `what` names the tensor in the error if the device does not have that much memory.
    static Result<AccountedTensor> allocate(Accountant& accountant, MemoryUse use,
                                            ggml_backend_buffer_type_t buffer_type, ggml_type type, int64_t ne0,
                                            int64_t ne1, const char* what);

    ggml_tensor* get() const { return tensor_; }  // [ne0, ne1]; null unless allocated

  private:
    AccountedBuffer buffer_;
    ggml_context_ptr context_;
    ggml_tensor* tensor_ = nullptr;
};

/// A tensor of the same shape on each device that has layers of a model.
class PartTensors {
  public:
    PartTensors() = default;
    /// See AccountedTensor::allocate().
    static Result<PartTensors> allocate(Accountant& accountant, MemoryUse use, const LayerMemory& memory,
                                        ggml_type type, int64_t ne0, int64_t ne1, const char* what);

    bool is_empty() const { return tensors_.empty(); }
    /// The tensor on the device of a layer.
    ggml_tensor* of(int32_t layer) const { return tensors_[memory_.part_of(layer)].get(); }

  private:
    LayerMemory memory_{nullptr};
    std::vector<AccountedTensor> tensors_;  // by part of the memory
};

}  // namespace cake
