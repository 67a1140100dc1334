#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache/accountant.hpp"
#include "cache/kv_buffer.hpp"

namespace cake {

/// The slots of one layer and KV head: a contiguous run of the store, oldest token first.
struct Run {
    int64_t begin = 0;
    int32_t length = 0;
    int32_t capacity = 0;
};

/// One sequence's compressed cache: a fixed number of slots, allocated once, ragged by layer and KV head. It stores and
/// never decides. Beside K and V each slot has the token's position in the text, the score it was last given, and the
/// attention that it got in all.
class KvStore {
  public:
    KvStore() = default;
    /// `tokens_per_layer` is the stated budget: `n_layer * tokens_per_layer` tokens, sliced as arrange() says.
    static Result<KvStore> create(Accountant& accountant, ggml_backend_buffer_type_t type, const KvShape& shape,
                                  int64_t tokens_per_layer);

    const KvShape& shape() const { return shape_; }
    const KvBuffer& buffer() const { return buffer_; }
    int64_t capacity_tokens() const { return buffer_.n_slots() / shape_.n_head_kv; }

    std::span<const Run> runs(int32_t layer) const;  // one for each KV head
    /// Slots that hold a token, of all KV heads.
    int64_t n_held(int32_t layer) const;
    /// Tokens that a KV head holds on average, rounded up.
    int64_t tokens_held(int32_t layer) const { return (n_held(layer) + shape_.n_head_kv - 1) / shape_.n_head_kv; }
    std::span<const int32_t> positions(int32_t layer, int32_t head) const {
        return of_run<const int32_t>(positions_.get(), layer, head);
    }
    std::span<int32_t> positions(int32_t layer, int32_t head) { return of_run(positions_.get(), layer, head); }
    std::span<const float> scores(int32_t layer, int32_t head) const {
        return of_run<const float>(scores_.get(), layer, head);
    }
    std::span<float> scores(int32_t layer, int32_t head) { return of_run(scores_.get(), layer, head); }
    std::span<const float> sums(int32_t layer, int32_t head) const {
        return of_run<const float>(sums_.get(), layer, head);
    }
    std::span<float> sums(int32_t layer, int32_t head) { return of_run(sums_.get(), layer, head); }

    /// Bytes of the slots that are occupied.
    size_t bytes_used() const;
    size_t bytes_allocated() const { return buffer_.size_bytes(); }

    /// Drops all tokens of a run but those at `kept`, ascending indices into it; the run stays where it is.
    void keep(int32_t layer, int32_t head, std::span<const int32_t> kept);

    /// Gives every run room for `capacities`, [n_head_kv, n_layer], tokens, at least as many as it holds, and slides
    /// the runs there.
    void arrange(std::span<const int32_t> capacities);
    /// The same within one layer, [n_head_kv], whose room as a whole stays what it is.
    void arrange_layer(int32_t layer, std::span<const int32_t> capacities);

    /// Makes the next `n` slots of a run tokens and returns the first. What is in them and what is known of them is
    /// left to the caller.
    int64_t extend(int32_t layer, int32_t head, int32_t n);

    /// Appends tokens to a run from a buffer of the same shape, where token i lies at slot `base + kept[i]`. What is
    /// known of them is left to the caller.
    void load(int32_t layer, int32_t head, const KvBuffer& from, int64_t base, std::span<const int32_t> kept);

    /// Makes the next slot of every run of the layer the token at `position`; the caller writes its K and V there.
    void push(int32_t layer, int32_t position);

  private:
    size_t index(int32_t layer, int32_t head) const {
        return static_cast<size_t>(layer) * static_cast<size_t>(shape_.n_head_kv) + static_cast<size_t>(head);
    }
    Run& run(int32_t layer, int32_t head) { return runs_[index(layer, head)]; }
    const Run& run(int32_t layer, int32_t head) const { return runs_[index(layer, head)]; }
    /// What is known of the tokens of a run.
    template <typename T>
    std::span<T> of_run(T* values, int32_t layer, int32_t head) const {
        const Run& r = run(layer, head);
        return {values + r.begin, static_cast<size_t>(r.length)};
    }
    void slide(Run& run, int64_t begin);
    void arrange_runs(std::span<Run> runs, std::span<const int32_t> capacities, int64_t begin, int64_t end);

    KvShape shape_;
    KvBuffer buffer_;
    std::vector<Run> runs_;  // [n_head_kv, n_layer]
    // Memory that no token has taken yet is not touched, since a budget may be far more than is ever used.
    std::unique_ptr<int32_t[]> positions_;  // [n_slots]
    std::unique_ptr<float[]> scores_;       // [n_slots]
    std::unique_ptr<float[]> sums_;         // [n_slots]
    AccountedBytes slot_notes_;             // of these three
};

}  // namespace cake
