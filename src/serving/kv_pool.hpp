#pragma once

#include <cstdint>
#include <optional>

#include "engine/engine_state.hpp"
#include "engine/sequence_config.hpp"

namespace cake {

/// How the K/V memory of many sequences is stated.
struct PoolOptions {
    SequenceOptions sequence;            // of a sequence that asks for nothing else
    std::optional<uint64_t> kv_bytes{};  // of all sequences and the staging layers; not set: what `sequence` comes to
    int32_t n_parallel = 4;              // sequences at once
    int64_t n_ctx = 0;                   // most tokens of a text and its answer; 0: what the model was trained with
    int64_t segment = 0;                 // tokens that are read at a time; 0: all
};

/// The K/V memory that many sequences share: a fixed number of bytes for their stores, and for the full-length layers
/// of the texts that are being read. Whoever allocates of it takes first, so that the two are never exceeded.
class KvPool {
  public:
    /// Slices it; fails with the least that would work where it is too small.
    static Result<KvPool> create(const std::shared_ptr<const EngineState>& engine, const PoolOptions& options);

    /// What a sequence has that asks for nothing else.
    const SequenceOptions& sequence() const { return sequence_; }
    int64_t n_ctx() const { return n_ctx_; }
    int64_t segment() const { return segment_; }
    uint64_t bytes_bound() const { return bytes_of_stores_ + bytes_of_staging_; }
    uint64_t bytes_of_stores() const { return bytes_of_stores_; }
    uint64_t bytes_of_staging() const { return bytes_of_staging_; }

    /// What a staging layer takes at most while a text is read that reaches `n_tokens`.
    uint64_t staging_bytes(const SequenceConfig& config, int64_t tokens_per_layer, int64_t n_tokens) const;

    /// Of a sequence that keeps everything, where `n_sequences` share all that stores have.
    int64_t tokens_of_full_cache(const SequenceConfig& config, int32_t n_sequences) const;
    uint64_t stores_left() const { return bytes_of_stores_ - stores_taken_; }

    bool take_store(uint64_t n_bytes) { return take(stores_taken_, bytes_of_stores_, n_bytes); }
    void give_store(uint64_t n_bytes) { stores_taken_ -= n_bytes; }
    bool take_staging(uint64_t n_bytes) { return take(staging_taken_, bytes_of_staging_, n_bytes); }
    void give_staging(uint64_t n_bytes) { staging_taken_ -= n_bytes; }
    /// After an error that left in doubt what was taken: so much is, and nothing flies.
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
