#include "backend/accounted_tensor.hpp"

namespace cake {

Result<AccountedTensor> AccountedTensor::allocate(Accountant& accountant, MemoryUse use,
                                                  ggml_backend_buffer_type_t buffer_type, ggml_type type, int64_t ne0,
                                                  int64_t ne1, const char* what) {
    AccountedTensor result;
    result.context_.reset(ggml_init({.mem_size = ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    result.tensor_ = ggml_new_tensor_2d(result.context_.get(), type, ne0, ne1);
    if (auto fits = check_size(buffer_type, result.tensor_, what); !fits) return std::unexpected(fits.error());
    auto buffer = AccountedBuffer::allocate(accountant, use, buffer_type, ggml_nbytes(result.tensor_), what);
    if (!buffer) return std::unexpected(buffer.error());
    result.buffer_ = std::move(*buffer);
    ggml_backend_tensor_alloc(result.buffer_.get(), result.tensor_, ggml_backend_buffer_get_base(result.buffer_.get()));
    return result;
}

Result<PartTensors> PartTensors::allocate(Accountant& accountant, MemoryUse use, const LayerMemory& memory,
                                          ggml_type type, int64_t ne0, int64_t ne1, const char* what) {
    PartTensors result;
    result.memory_ = memory;
    for (size_t i = 0; i < memory.n_parts(); i++) {
        auto tensor = AccountedTensor::allocate(accountant, use, memory.part(i).buffer_type, type, ne0, ne1, what);
        if (!tensor) return std::unexpected(tensor.error());
        result.tensors_.push_back(std::move(*tensor));
    }
    return result;
}

}  // namespace cake
