#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cake/engine.hpp"
#include "serving/active_request.hpp"
#include "serving/generation.hpp"
#include "serving/kv_pool.hpp"
#include "serving/prefill_pacer.hpp"
#include "serving/prefix_cache.hpp"
#include "serving/refusal.hpp"
#include "serving/request_queue.hpp"

namespace cake {

struct BatcherOptions {
    PoolOptions pool;
    int32_t n_queue = 128;  // requests that may wait
};

enum class SlotState { queued, reading, generating, idle };

/// A request, or what is left of one in memory.
struct SlotReport {
    std::string id;
    SlotState state = SlotState::idle;
    int64_t queue_position = 0;  // from 1, if it waits
    int64_t n_prompt = 0;
    int64_t n_read = 0;  // prompt tokens read so far, in tokens' worth of work
    int64_t n_cached = 0;
    int64_t n_generated = 0;
    std::string policy;
    MemoryReport memory{};
    std::vector<LayerReport> layers{};
    std::vector<Token> tokens{};  // of prompt and answer, if asked for
    std::vector<int32_t> held{};  // number of layers that still hold each of them
};

struct PoolReport {
    uint64_t kv_bytes_bound = 0;
    uint64_t kv_bytes_now = 0;
    uint64_t kv_bytes_peak = 0;
    uint64_t hidden_bytes_peak = 0;
    uint64_t compute_bytes_peak = 0;
    int64_t n_waiting = 0;
    int64_t n_reading = 0;
    int64_t n_generating = 0;
    int64_t n_idle = 0;
    int64_t n_evicted_tokens = 0;  // since the start, counted once for each layer
};

/// Answers many requests at once in a fixed amount of K/V memory. One thread computes: a step of decoding gives every
/// sequence a token; between two of them prompts are read, a chunk of tokens through a layer at a time, on the whole
/// for no longer than the decoding takes. Requests beyond `n_parallel`, or beyond the memory, wait.
class Batcher {
  public:
    static Result<std::unique_ptr<Batcher>> start(const Engine& engine, const BatcherOptions& options);
    ~Batcher();

    /// From any thread. What can never fit is refused with the numbers.
    std::expected<std::shared_ptr<Generation>, Refusal> submit(GenerationRequest request);
    /// Why no request is taken now, whatever it is.
    std::optional<Refusal> refusal() { return queue_.refusal(); }

    /// Takes no more requests; those that it has go on.
    void close() { queue_.close(); }
    /// Whether there are any.
    bool is_busy() { return queue_.is_busy(); }
    /// Ends them.
    void end_all();

    const KvPool& pool() const { return pool_; }
    PoolReport report();
    std::vector<SlotReport> slots();
    /// With the text and what is held of it.
    std::optional<SlotReport> slot(const std::string& id);

  private:
    struct Running {
        std::unique_ptr<ActiveRequest> request;
        std::chrono::steady_clock::time_point since;
        uint64_t staging_bytes = 0;  // of its staging layer: from its first chunk until it has read
    };

    Batcher(const Engine& engine, KvPool pool, const BatcherOptions& options);

    std::expected<WaitingRequest, Refusal> prepare(GenerationRequest request);
    int64_t tokens_of_full_cache(const GenerationRequest& request, const SequenceConfig& config) const;

    void run();
    void recover();
    void end_everything(FinishReason reason, const std::string& error = {});
    void end_cancelled();
    void admit();
    bool admit(WaitingRequest& waiting);
    bool take_stores(uint64_t n_bytes);
    void decode();
    void read();
    Running* next_to_read();
    void retire();
    void drop(CachedSequence sequence);
    static SlotReport report_of(const WaitingRequest& waiting, size_t n_ahead);
    static SlotReport report_of(const Running& running, bool with_text);
    static SlotReport report_of(const CachedSequence& sequence, SlotState state, bool with_text);

    std::shared_ptr<const EngineState> engine_;
    BatcherOptions options_;
    Accountant accountant_;  // of all sequences
    KvPool pool_;
    RequestQueue queue_;

    // ---- of the computing thread
    std::list<Running> running_;
    PrefixCache cache_;
    PrefillPacer pacer_;
    GraphRunner runner_;
    Running* first_reading_ = nullptr;  // the prompt that came first of those that are read
    int64_t n_evicted_slots_ = 0;       // of sequences that are gone

    std::thread thread_;
};

}  // namespace cake
