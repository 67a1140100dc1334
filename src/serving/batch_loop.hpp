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

#include "cake/batcher.hpp"
#include "serving/active_request.hpp"
#include "serving/generation.hpp"
#include "serving/kv_pool.hpp"
#include "serving/prefill_pacer.hpp"
#include "serving/prefix_cache.hpp"
#include "serving/recent_reports.hpp"
#include "serving/request_queue.hpp"

namespace cake {

/// The implementation of Batcher: the loop of the computing thread and what other threads may ask of it.
class BatchLoop final : public Batcher {
  public:
    static Result<std::unique_ptr<BatchLoop>> start(const Engine& engine, const BatcherOptions& options);
    ~BatchLoop() override;

    std::expected<std::shared_ptr<Generation>, Refusal> submit(GenerationRequest request) override;
    std::optional<Refusal> refusal() override { return queue_.refusal(); }
    void close() override { queue_.close(); }
    bool is_busy() override { return queue_.is_busy(); }
    void end_all() override;
    void lose(const std::string& message) override;
    const BatcherLimits& limits() const override { return limits_; }
    PoolReport report() override;
    std::vector<SlotReport> slots() override;
    std::optional<SlotReport> slot(const std::string& id) override;
    Result<SlotFile> save_slot(const SlotName& name, const std::string& path) override;
    Result<SlotFile> load_slot(const std::string& path, const std::string& id, const std::string& cache_salt) override;
    Result<int64_t> erase_slot(const SlotName& name) override;

    const KvPool& pool() const { return pool_; }

  private:
    struct Running {
        std::unique_ptr<ActiveRequest> request;
        std::chrono::steady_clock::time_point since;
        uint64_t staging_bytes = 0;  // reserved for its staging layer, from the first prefill step to the last
    };

    BatchLoop(const Engine& engine, KvPool pool, const BatcherOptions& options);

    void note_open(const std::shared_ptr<EventQueue>& generation);
    std::expected<WaitingRequest, Refusal> prepare(GenerationRequest request);
    int64_t tokens_of_full_cache(const GenerationRequest& request, const SequenceConfig& config) const;

    void run();
    void recover();
    void end_everything(FinishReason reason, const Error& error = {});
    void end_cancelled();
    void admit();
    bool admit(WaitingRequest& waiting);
    bool take_stores(uint64_t n_bytes);
    size_t n_parallel() const { return static_cast<size_t>(limits_.n_parallel); }
    size_t n_running() const;
    bool make_room_for(size_t n);
    static bool may_reuse(const GenerationRequest& request);
    size_t n_prefix(const WaitingRequest& waiting) const;
    void begin_with_prefix(CachedSequence& sequence, std::span<const Token> tokens);
    void keep_prefix(const ActiveRequest& active);
    Result<void> begin_with_saved(CachedSequence& sequence, const GenerationRequest& request);
    void decode();
    void read();
    Running* next_to_read();
    void retire();
    void drop(CachedSequence sequence);
    Result<const CachedSequence*> find_idle(const SlotName& name) const;
    Result<void> load(CachedSequence& loaded, const std::string& path);
    std::optional<SlotReport> new_report(const std::string& id);
    static SlotReport report_of(const WaitingRequest& waiting, size_t n_ahead);
    static SlotReport report_of(const Running& running, bool with_text);
    static SlotReport report_of(const CachedSequence& sequence, SlotState state, bool with_text);

    std::shared_ptr<const EngineState> engine_;
    BatcherLimits limits_;
    Accountant accountant_;  // counts the memory of all sequences
    KvPool pool_;
    RequestQueue queue_;
    RecentReports reports_;
    Mutex open_mutex_;
    std::vector<std::weak_ptr<EventQueue>> open_ CAKE_GUARDED_BY(open_mutex_);  // requests that may not have ended

    // ---- used by the compute thread only
    std::list<Running> running_;
    PrefixCache cache_;
    PrefillPacer pacer_;
    Decoder decoder_;
    Running* first_reading_ = nullptr;  // oldest request that is being prefilled
    int64_t n_evicted_slots_ = 0;       // slots evicted in sequences that no longer exist

    std::thread thread_;
};

}  // namespace cake
