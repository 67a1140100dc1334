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
    int32_t n_queue = 128;  // maximum number of waiting requests
};

enum class SlotState { queued, reading, generating, idle };

/// A waiting or running request, or a cached sequence (`idle`).
struct SlotReport {
    std::string id;
    SlotState state = SlotState::idle;
    int64_t queue_position = 0;  // 1 for the first waiting request; 0 if it does not wait
    int64_t n_prompt = 0;
    int64_t n_read = 0;  // prompt tokens prefilled so far, cached ones included
    int64_t n_cached = 0;
    int64_t n_generated = 0;
    std::string policy;
    MemoryReport memory{};
    std::vector<LayerReport> layers{};
    std::vector<Token> tokens{};  // prompt and answer; only from slot()
    std::vector<int32_t> held{};  // [tokens.size()] number of layers that still hold each token
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
    int64_t n_evicted_tokens = 0;  // since the start; a token counts once for each layer that evicts it
};

/// Runs many requests concurrently in a fixed amount of K/V memory (docs/how-it-works.md, Serving many requests). One
/// thread computes. Each decoding step adds a token to every sequence that is generating. Between two decoding steps,
/// prompts are prefilled in steps of one chunk in one layer, for at most about as long as decoding takes. Requests that
/// exceed `n_parallel` sequences or the memory wait.
class Batcher {
  public:
    static Result<std::unique_ptr<Batcher>> start(const Engine& engine, const BatcherOptions& options);
    ~Batcher();

    /// May be called from any thread. Refuses a request that is invalid or can never fit.
    std::expected<std::shared_ptr<Generation>, Refusal> submit(GenerationRequest request);
    /// The reason why any request would be refused now; nothing if requests are accepted.
    std::optional<Refusal> refusal() { return queue_.refusal(); }

    /// Refuses all further requests; waiting and running ones continue.
    void close() { queue_.close(); }
    /// True if requests are waiting or running.
    bool is_busy() { return queue_.is_busy(); }
    /// Like close(), and cancels all waiting and running requests.
    void end_all();

    const KvPool& pool() const { return pool_; }
    PoolReport report();
    std::vector<SlotReport> slots();
    /// The report of one request, including its tokens and how many layers hold each of them; nothing if the ID is
    /// unknown.
    std::optional<SlotReport> slot(const std::string& id);

  private:
    struct Running {
        std::unique_ptr<ActiveRequest> request;
        std::chrono::steady_clock::time_point since;
        uint64_t staging_bytes = 0;  // reserved for its staging layer, from the first prefill step to the last
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
    Accountant accountant_;  // counts the memory of all sequences
    KvPool pool_;
    RequestQueue queue_;

    // ---- used by the compute thread only
    std::list<Running> running_;
    PrefixCache cache_;
    PrefillPacer pacer_;
    GraphRunner runner_;
    Running* first_reading_ = nullptr;  // oldest request that is being prefilled
    int64_t n_evicted_slots_ = 0;       // slots evicted in sequences that no longer exist

    std::thread thread_;
};

}  // namespace cake
