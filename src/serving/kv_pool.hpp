#pragma once

#include <cstdint>

#include "cake/batcher.hpp"
#include "engine/engine_state.hpp"
#include "engine/sequence_config.hpp"

namespace cake {

/// The K/V memory that many sequences share: a fixed number of bytes for their stores, and another for the staging
/// layers of running prefills. Reserve here (`take_…`) before allocating, so that neither is exceeded.
class KvPool {
  public:
    /// Divides the memory between stores and staging layers. If it is too small, the error states the minimum.
    static Result<KvPool> create(const std::shared_ptr<const EngineState>& engine, const PoolOptions& options);

    /// PoolOptions::sequence, with the budget that fits the memory.
    const SequenceOptions& sequence() const { return sequence_; }
    int64_t n_ctx() const { return n_ctx_; }
    int64_t segment() const { return segment_; }
    uint64_t bytes_bound() const { return bytes_of_stores_ + bytes_of_staging_; }
    uint64_t bytes_of_stores() const { return bytes_of_stores_; }
    uint64_t bytes_of_staging() const { return bytes_of_staging_; }

    /// Maximum size of the staging layer in bytes during a prefill after which the text has `n_tokens` tokens.
    uint64_t staging_bytes(const SequenceConfig& config, int64_t tokens_per_layer, int64_t n_tokens) const;

    /// Capacity in tokens of a sequence that evicts nothing, if `n_sequences` of them share the memory of all stores.
    int64_t tokens_of_full_cache(const SequenceConfig& config, int32_t n_sequences) const;
    uint64_t stores_left() const { return bytes_of_stores_ - stores_taken_; }

    bool take_store(uint64_t n_bytes) { return take(stores_taken_, bytes_of_stores_, n_bytes); }
    void give_store(uint64_t n_bytes) { stores_taken_ -= n_bytes; }
    bool take_staging(uint64_t n_bytes) { return take(staging_taken_, bytes_of_staging_, n_bytes); }
    void give_staging(uint64_t n_bytes) { staging_taken_ -= n_bytes; }
    /// Corrects the reserved amounts after an error that may have left them wrong: `bytes_of_stores` for stores,
    /// nothing for staging layers.
    void recount(uint64_t bytes_of_stores) {
        stores_taken_ = bytes_of_stores;
        staging_taken_ = 0;
    }

  private:
    static bool take(uint64_t& taken, uint64_t most, uint64_t n_bytes) {
        if (n_bytes > most - taken) return false;
        taken += n_bytes;
        return true;
    }

    SequenceOptions sequence_;
    int64_t n_ctx_ = 0;
    int64_t segment_ = 0;
    uint64_t bytes_of_stores_ = 0;
    uint64_t bytes_of_staging_ = 0;
    uint64_t stores_taken_ = 0;
    uint64_t staging_taken_ = 0;
};

}  // namespace cake
