#pragma once

#include <ggml-cpp.h>

#include <array>
#include <cstddef>
#include <map>

#include "cake/error.hpp"

namespace cake {

/// Use of memory: keys and values, hidden states of the segment in prefill, and intermediate results of graphs.
enum class MemoryUse { kv, hidden, compute };

/// The device that has memory of this type; null if it is the host.
ggml_backend_dev_t device_of(ggml_backend_buffer_type_t type);

/// Counts every allocation that grows with the length of the input. Must outlive the memory that it counts.
class Accountant {
  public:
    Accountant() = default;
    /// Everything is also counted in `whole`, which sums up several sequences.
    explicit Accountant(Accountant* whole) : whole_(whole) {}

    /// `device`: null for the memory of the host.
    void take(MemoryUse use, size_t n_bytes, ggml_backend_dev_t device = nullptr);
    void give(MemoryUse use, size_t n_bytes, ggml_backend_dev_t device = nullptr);

    size_t bytes_now(MemoryUse use) const { return all_.now[index(use)]; }
    size_t bytes_peak(MemoryUse use) const { return all_.peak[index(use)]; }
    size_t bytes_now(MemoryUse use, ggml_backend_dev_t device) const { return on(device).now[index(use)]; }
    size_t bytes_peak(MemoryUse use, ggml_backend_dev_t device) const { return on(device).peak[index(use)]; }

  private:
    static constexpr size_t kUses = 3;
    static size_t index(MemoryUse use) { return static_cast<size_t>(use); }

    struct Counts {
        void take(size_t i, size_t n_bytes);
        void give(size_t i, size_t n_bytes);

        std::array<size_t, kUses> now{};
        std::array<size_t, kUses> peak{};
    };
    Counts on(ggml_backend_dev_t device) const {
        const auto found = by_device_.find(device);
        return found == by_device_.end() ? Counts() : found->second;
    }

    Accountant* whole_ = nullptr;
    Counts all_;
    std::map<ggml_backend_dev_t, Counts> by_device_;
};

/// Accounts for bytes that are allocated elsewhere, such as on the host, for as long as this object lives.
class AccountedBytes {
  public:
    AccountedBytes() = default;
    AccountedBytes(Accountant& accountant, MemoryUse use, size_t n_bytes, ggml_backend_dev_t device = nullptr);
    AccountedBytes(AccountedBytes&& other) noexcept;
    AccountedBytes& operator=(AccountedBytes&& other) noexcept;
    AccountedBytes(const AccountedBytes&) = delete;
    AccountedBytes& operator=(const AccountedBytes&) = delete;
    ~AccountedBytes() { release(); }

    size_t size_bytes() const { return n_bytes_; }

  private:
    void release();

    Accountant* accountant_ = nullptr;
    MemoryUse use_ = MemoryUse::kv;
    size_t n_bytes_ = 0;
    ggml_backend_dev_t device_ = nullptr;
};

/// Fails if the device of a buffer type cannot compute with a tensor as large as this one, which ggml would abort on.
/// It does not know the limits of a device behind RPC. `what` names the tensor in the error.
Result<void> check_size(ggml_backend_buffer_type_t type, const ggml_tensor* tensor, const char* what);

/// A backend buffer whose bytes are accounted for as long as it lives.
class AccountedBuffer {
  public:
    AccountedBuffer() = default;

    /// Fails if the device does not have that much memory. `what` names the buffer in the error.
    static Result<AccountedBuffer> allocate(Accountant& accountant, MemoryUse use, ggml_backend_buffer_type_t type,
                                            size_t n_bytes, const char* what);

    ggml_backend_buffer_t get() const { return buffer_.get(); }
    size_t size_bytes() const { return bytes_.size_bytes(); }

  private:
    ggml_backend_buffer_ptr buffer_;
    AccountedBytes bytes_;
};

}  // namespace cake
