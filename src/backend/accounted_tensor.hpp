#pragma once

#include <cstdint>

#include "backend/accountant.hpp"

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

}  // namespace cake
