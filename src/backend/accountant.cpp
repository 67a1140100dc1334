#include "backend/accountant.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

namespace cake {

ggml_backend_dev_t device_of(ggml_backend_buffer_type_t type) {
    return ggml_backend_buft_is_host(type) ? nullptr : ggml_backend_buft_get_device(type);
}

void Accountant::Counts::take(size_t i, size_t n_bytes) {
    now[i] += n_bytes;
    peak[i] = std::max(peak[i], now[i]);
}

void Accountant::Counts::give(size_t i, size_t n_bytes) {
    assert(n_bytes <= now[i]);
    now[i] -= n_bytes;
}

void Accountant::take(MemoryUse use, size_t n_bytes, ggml_backend_dev_t device) {
    all_.take(index(use), n_bytes);
    by_device_[device].take(index(use), n_bytes);
    if (whole_ != nullptr) whole_->take(use, n_bytes, device);
}

void Accountant::give(MemoryUse use, size_t n_bytes, ggml_backend_dev_t device) {
    all_.give(index(use), n_bytes);
    by_device_[device].give(index(use), n_bytes);
    if (whole_ != nullptr) whole_->give(use, n_bytes, device);
}

AccountedBytes::AccountedBytes(Accountant& accountant, MemoryUse use, size_t n_bytes, ggml_backend_dev_t device)
    : accountant_(&accountant), use_(use), n_bytes_(n_bytes), device_(device) {
    accountant.take(use, n_bytes, device);
}

AccountedBytes::AccountedBytes(AccountedBytes&& other) noexcept
    : accountant_(std::exchange(other.accountant_, nullptr)),
      use_(other.use_),
      n_bytes_(std::exchange(other.n_bytes_, 0)),
      device_(other.device_) {}

AccountedBytes& AccountedBytes::operator=(AccountedBytes&& other) noexcept {
    if (this != &other) {
        release();
        accountant_ = std::exchange(other.accountant_, nullptr);
        use_ = other.use_;
        n_bytes_ = std::exchange(other.n_bytes_, 0);
        device_ = other.device_;
    }
    return *this;
}

void AccountedBytes::release() {
    if (accountant_ != nullptr) accountant_->give(use_, n_bytes_, device_);
    accountant_ = nullptr;
    n_bytes_ = 0;
}

Result<void> check_size(ggml_backend_buffer_type_t type, const ggml_tensor* tensor, const char* what) {
    ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    if (device == nullptr || ggml_backend_dev_supports_op(device, tensor)) return {};
    return fail(Error::Code::out_of_memory,
                fmt::format("{} would be a tensor of {} MiB, and the device {} cannot compute with one of that size: "
                            "use a smaller budget, a shorter text or another device",
                            what, ggml_nbytes(tensor) >> 20U, ggml_backend_dev_name(device)));
}

Result<AccountedBuffer> AccountedBuffer::allocate(Accountant& accountant, MemoryUse use,
                                                  ggml_backend_buffer_type_t type, size_t n_bytes, const char* what) {
    // The system may promise more memory than it has and later kill the process, so a size above the total memory is
    // refused here.
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    ggml_backend_dev_t device = ggml_backend_buft_get_device(type);
    if (device == nullptr)
        device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);  // plain host memory has no device
    if (device != nullptr) ggml_backend_dev_memory(device, &free_bytes, &total_bytes);
    AccountedBuffer result;
    if (total_bytes == 0 || n_bytes <= total_bytes) {
        result.buffer_.reset(ggml_backend_buft_alloc_buffer(type, std::max<size_t>(n_bytes, 1)));
    }
    if (!result.buffer_) {
        return fail(Error::Code::out_of_memory,
                    fmt::format("{} needs {} MiB of memory and the device {} has {} MiB: ask for less", what,
                                n_bytes >> 20U, ggml_backend_buft_name(type), total_bytes >> 20U));
    }
    result.bytes_ = AccountedBytes(accountant, use, n_bytes, device_of(type));
    return result;
}

}  // namespace cake
