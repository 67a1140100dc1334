#pragma once

#include <ggml-cpp.h>

#include <array>
#include <cstddef>

#include "cake/error.hpp"

namespace cake {

/// What memory is for: keys and values, the hidden states of the segment in prefill, and the graphs' intermediate
/// results.
enum class MemoryUse { kv, hidden, compute };

/// Counts every allocation that grows with the length of the input. Outlives what it accounts.
class Accountant {
  public:
    Accountant() = default;
    /// All that it counts is counted in `whole`, too: of several sequences together.
    explicit Accountant(Accountant* whole) : whole_(whole) {}

    void take(MemoryUse use, size_t n_bytes);
    void give(MemoryUse use, size_t n_bytes);

    size_t bytes_now(MemoryUse use) const { return now_[index(use)]; }
    size_t bytes_peak(MemoryUse use) const { return peak_[index(use)]; }

  private:
    static constexpr size_t kUses = 3;
    static size_t index(MemoryUse use) { return static_cast<size_t>(use); }

    Accountant* whole_ = nullptr;
    std::array<size_t, kUses> now_{};
    std::array<size_t, kUses> peak_{};
};

/// Counts bytes that live elsewhere, such as on the host, as long as it lives.
class AccountedBytes {
  public:
    AccountedBytes() = default;
    AccountedBytes(Accountant& accountant, MemoryUse use, size_t n_bytes);
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
};

/// A backend buffer whose bytes are accounted for as long as it lives.
class AccountedBuffer {
  public:
    AccountedBuffer() = default;

    /// Fails with the size where the device cannot give that much; `what` names the buffer in that sentence.
    static Result<AccountedBuffer> allocate(Accountant& accountant, MemoryUse use, ggml_backend_buffer_type_t type,
                                            size_t n_bytes, const char* what);

    ggml_backend_buffer_t get() const { return buffer_.get(); }
    size_t size_bytes() const { return bytes_.size_bytes(); }

  private:
    ggml_backend_buffer_ptr buffer_;
    AccountedBytes bytes_;
};

}  // namespace cake
