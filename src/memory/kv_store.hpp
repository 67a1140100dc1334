#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/layer_memory.hpp"
#include "memory/kv_buffer.hpp"

namespace cake {

/// The slots of one layer and KV head: a contiguous run of the store, oldest token first.
struct Run {
    int64_t begin = 0;
    int32_t length = 0;
    int32_t capacity = 0;
};

/// Data about the token in each slot, besides its K and V.
class SlotNotes {
  public:
    SlotNotes() = default;
    SlotNotes(Accountant& accountant, int64_t n_slots);

    int32_t* positions() const { return positions_.get(); }  // [n_slots] positions in the text
    float* scores() const { return scores_.get(); }          // [n_slots] latest scores by the policy
    float* sums() const { return sums_.get(); }              // [n_slots] cumulative attention

    void set(int64_t slot, int32_t position) const;  // for a new token: score and cumulative attention are 0
    /// Moves the notes of `n` slots; the ranges may overlap.
    void move(int64_t from, int64_t to, int64_t n) const;

  private:
    // Not initialised, so that pages are only used once a token needs them: a budget may be far larger than what is
    // ever used.
    std::unique_ptr<int32_t[]> positions_;
    std::unique_ptr<float[]> scores_;
    std::unique_ptr<float[]> sums_;
    AccountedBytes bytes_;
};

/// How the slots of a store are divided among its layers: in equal shares, or by arrange().
enum class LayerShares { equal, any };

/// Number of layers whose equal shares the part of a store with `n_layer` layers has room for.
int64_t part_layers(const KvShape& shape, int32_t n_layer, LayerShares shares);

/// The compressed cache of some layers of a model: a fixed number of slots, allocated once, in runs of different
/// lengths for each layer and KV head. It stores tokens and never makes decisions. Layers are numbered as in the model.
/// If the layers are on several devices, each has a part of the store. With LayerShares::any, every part has room for
/// all slots, because any of its layers may get most of them.
class KvStore {
  public:
    KvStore() = default;
    /// Allocates `n_layer * tokens_per_layer` tokens, which arrange() divides among the runs. `layers`: numbers of the
    /// layers, ascending, `shape.n_layer` of them; empty: 0, 1, ….
    static Result<KvStore> create(Accountant& accountant, const LayerMemory& memory, const KvShape& shape,
                                  int64_t tokens_per_layer, std::span<const int32_t> layers = {},
                                  LayerShares shares = LayerShares::any);

    const KvShape& shape() const { return shape_; }
    std::span<const int32_t> layers() const { return layers_; }  // [n_layer] ascending
    bool holds(int32_t layer) const {
        return layer < std::ssize(index_of_layer_) && index_of_layer_[static_cast<size_t>(layer)] >= 0;
    }
    /// The buffer with the slots of a layer.
    const KvBuffer& buffer(int32_t layer) const { return part(layer).buffer; }
    /// Number of slots that arrange() divides.
    int64_t n_slots() const { return n_slots_; }
    int64_t capacity_tokens() const { return n_slots_ / shape_.n_head_kv; }

    std::span<const Run> runs(int32_t layer) const;  // one for each KV head
    /// Number of slots that hold a token, over all KV heads.
    int64_t n_held(int32_t layer) const;
    /// Number of tokens that a KV head holds on average, rounded up.
    int64_t tokens_held(int32_t layer) const { return (n_held(layer) + shape_.n_head_kv - 1) / shape_.n_head_kv; }
    /// Number of tokens of the longest run, over all layers and KV heads.
    int32_t longest_run() const;

    // Notes on the tokens of a run, oldest first.
    std::span<const int32_t> positions(int32_t layer, int32_t head) const {
        return of_run<const int32_t>(notes(layer).positions(), layer, head);
    }
    std::span<int32_t> positions(int32_t layer, int32_t head) { return of_run(notes(layer).positions(), layer, head); }
    std::span<const float> scores(int32_t layer, int32_t head) const {
        return of_run<const float>(notes(layer).scores(), layer, head);
    }
    std::span<float> scores(int32_t layer, int32_t head) { return of_run(notes(layer).scores(), layer, head); }
    std::span<const float> sums(int32_t layer, int32_t head) const {
        return of_run<const float>(notes(layer).sums(), layer, head);
    }
    std::span<float> sums(int32_t layer, int32_t head) { return of_run(notes(layer).sums(), layer, head); }

    /// Bytes of the slots that hold a token.
    size_t bytes_used() const;
    size_t bytes_allocated() const;
    /// Those on a device; null: the host.
    size_t bytes_on(ggml_backend_dev_t device) const;

    /// Drops all tokens of a run except those at `kept`, ascending indices into the run. The run does not move.
    void keep(int32_t layer, int32_t head, std::span<const int32_t> kept);
    /// Drops all tokens whose position is `n_tokens` or higher.
    void truncate(int64_t n_tokens);

    /// Sets the capacity of every run in tokens and moves the runs accordingly. `capacities`: [n_head_kv, n_layer], in
    /// the order of layers(), at least the length of each run.
    void arrange(std::span<const int32_t> capacities);
    /// The same within one layer, whose total capacity does not change: [n_head_kv].
    void arrange_layer(int32_t layer, std::span<const int32_t> capacities);

    /// Extends a run by `n` slots and returns the first of them. The caller must set their contents and notes.
    int64_t extend(int32_t layer, int32_t head, int32_t n);

    /// Appends tokens to a run from a buffer of the same shape, in which token i is at slot `base + kept[i]`. The
    /// caller must set their notes.
    void load(int32_t layer, int32_t head, const KvBuffer& from, int64_t base, std::span<const int32_t> kept);

    /// Fills an empty store with everything that `from` holds. Both have the same shape and layers, and every run has
    /// room for the one that it gets.
    void copy(const KvStore& from);

    /// Extends every run of the layer by one slot for the token at `position`. The caller must write its K and V.
    void push(int32_t layer, int32_t position);

  private:
    size_t index(int32_t layer, int32_t head) const;
    Run& run(int32_t layer, int32_t head) { return runs_[index(layer, head)]; }
    const Run& run(int32_t layer, int32_t head) const { return runs_[index(layer, head)]; }
    /// The part of `values` that belongs to a run.
    template <typename T>
    std::span<T> of_run(T* values, int32_t layer, int32_t head) const {
        const Run& r = run(layer, head);
        return {values + r.begin, static_cast<size_t>(r.length)};
    }
    /// The slots of the layers on one device.
    struct Part {
        KvBuffer buffer;
        SlotNotes notes;
        size_t n_runs = 0;
    };
    const Part& part(int32_t layer) const { return parts_[part_of_layer_[layer_index(layer)]]; }
    const SlotNotes& notes(int32_t layer) const { return part(layer).notes; }
    size_t layer_index(int32_t layer) const;
    static void slide(const Part& part, Run& run, int64_t begin);
    static void arrange_runs(const Part& part, std::span<Run> runs, std::span<const int32_t> capacities, int64_t begin,
                             int64_t end);

    KvShape shape_;
    int64_t n_slots_ = 0;
    std::vector<Part> parts_;  // in the order of their layers
    std::vector<Run> runs_;    // [n_head_kv, n_layer]
    std::vector<int32_t> layers_;
    std::vector<int32_t> index_of_layer_;  // [highest layer + 1] index in layers_; -1: not in this store
    std::vector<size_t> part_of_layer_;    // [n_layer] by index in layers_
};

}  // namespace cake
