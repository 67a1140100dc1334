#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/device_memory.hpp"

namespace cake {

/// The shape of a sequence's K and V. A slot is one token's K and V in one layer for one KV head.
struct KvShape {
    int32_t n_layer = 0;
    int32_t n_head_kv = 0;
    int32_t head_dim_k = 0;
    int32_t head_dim_v = 0;
    ggml_type type_k = GGML_TYPE_F16;
    ggml_type type_v = GGML_TYPE_F16;
    bool v_in_k = false;  // V is the first head_dim_v values of K, and takes no memory of its own

    size_t row_bytes_k() const { return ggml_row_size(type_k, head_dim_k); }
    size_t row_bytes_v() const { return v_in_k ? 0 : ggml_row_size(type_v, head_dim_v); }
    size_t slot_bytes() const { return row_bytes_k() + row_bytes_v(); }
    /// Bytes of one token in one layer, all KV heads.
    size_t token_bytes() const { return slot_bytes() * static_cast<size_t>(n_head_kv); }
};

/// Bytes of a buffer of `n_slots` slots, including the padding between its tensors.
size_t kv_buffer_bytes(ggml_backend_buffer_type_t type, const KvShape& shape, int64_t n_slots);

/// `n_slots` slots in one backend buffer: two tensors with one row for each slot. If V is in K, its rows are a view.
class KvBuffer {
  public:
    KvBuffer() = default;
    /// `what` names the buffer in errors; `least_bytes`: its size, if the slots take less. Fails if the device does not
    /// have that much memory, or cannot compute with tensors of that size.
    static Result<KvBuffer> allocate(Accountant& accountant, const DeviceMemory& memory, const KvShape& shape,
                                     int64_t n_slots, const char* what, size_t least_bytes = 0);
    /// The same memory as slots of another shape, which must fit into it. Fails as allocate() does.
    Result<KvBuffer> reshaped(const KvShape& shape, int64_t n_slots, const char* what) const;

    ggml_tensor* k() const { return k_; }  // [head_dim_k, n_slots]
    ggml_tensor* v() const { return v_; }  // [head_dim_v, n_slots]
    bool v_in_k() const { return v_->view_src == k_; }
    const DeviceMemory& memory() const { return memory_; }
    int64_t n_slots() const { return n_slots_; }
    size_t size_bytes() const { return buffer_ ? buffer_->size_bytes() : 0; }

  private:
    DeviceMemory memory_{nullptr};
    std::shared_ptr<const AccountedBuffer> buffer_;
    ggml_context_ptr context_;
    ggml_tensor* k_ = nullptr;
    ggml_tensor* v_ = nullptr;
    int64_t n_slots_ = 0;
};

/// Copies slots of `from` to slots of `to`, in the order of `moves`. Both are on the same device. Within one buffer,
/// source and target of a move may overlap.
void move_slots(const KvBuffer& from, const KvBuffer& to, std::span<const RowMove> moves);

}  // namespace cake
