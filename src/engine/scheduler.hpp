#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <expected>
#include <future>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cake/engine.hpp"
#include "engine/answering.hpp"
#include "engine/generation.hpp"
#include "engine/kv_pool.hpp"

namespace cake {

struct SchedulerOptions {
    PoolOptions pool;
    int32_t n_queue = 128;  // requests that may wait
};

/// Why a request was not taken.
struct Refusal {
    enum class Reason { invalid, too_long, budget, grammar, busy };
    Reason reason = Reason::invalid;
    std::string message;
    std::chrono::seconds retry_after{0};  // where it is busy
};

enum class SlotState { queued, reading, generating, idle };

/// A request, or what is left of one in memory.
struct SlotReport {
    std::string id;
    SlotState state = SlotState::idle;
    int64_t queue_position = 0;  // from 1, where it waits
    int64_t n_prompt = 0;
    int64_t n_read = 0;  // of them so far, in tokens' worth of work
    int64_t n_cached = 0;
    int64_t n_generated = 0;
    std::string policy;
    MemoryReport memory{};
    std::vector<LayerReport> layers{};
    std::vector<Token> tokens{};  // of prompt and answer, where asked for
    std::vector<int32_t> held{};  // layers that still hold them
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
    int64_t n_evicted_tokens = 0;  // in a layer each, since the start
};

/// Answers many requests at once in a fixed amount of K/V memory. One thread computes: a step of decoding gives every
/// sequence a token; between two of them prompts are read, a chunk of tokens through a layer at a time, on the whole
/// for no longer than the decoding takes. Requests beyond `n_parallel`, or beyond the memory, wait.
class Scheduler {
  public:
    static Result<std::unique_ptr<Scheduler>> start(const Engine& engine, const SchedulerOptions& options);
    ~Scheduler();

    /// From any thread. What can never fit is refused with the numbers.
    std::expected<std::shared_ptr<Generation>, Refusal> submit(GenerationRequest request);
    /// Why no request is taken now, whatever it is.
    std::optional<Refusal> refusal();

    /// Takes no more requests; those that it has go on.
    void close();
    /// Whether there are any.
    bool is_busy();
    /// Ends them.
    void end_all();

    const KvPool& pool() const { return pool_; }
    PoolReport report();
    std::vector<SlotReport> slots();
    /// With the text and what is held of it.
    std::optional<SlotReport> slot(const std::string& id);

  private:
    struct Waiting {
        std::shared_ptr<const GenerationRequest> request;
        std::shared_ptr<Generation> generation;
        std::vector<Resident> residents;  // empty ones
    };
    struct Running {
        std::unique_ptr<Answering> answering;
        std::chrono::steady_clock::time_point since;
        uint64_t staging_bytes = 0;  // of its staging layer: from its first chunk until it has read
    };

    /// Of the last ones, about a hundred.
    struct Mean {
        double value = 0;
        int64_t n = 0;
        void add(double next) {
            constexpr int64_t kMost = 100;
            n = std::min(n + 1, kMost);
            value += (next - value) / static_cast<double>(n);
        }
    };
    struct StepSeconds {
        Mean alone;
        Mean behind_reading;
    };

    Scheduler(const Engine& engine, KvPool pool, const SchedulerOptions& options);

    std::expected<Waiting, Refusal> prepare(GenerationRequest request);
    void run();
    bool wait_for_work();
    void run_tasks();
    void end_cancelled();
    void recover();
    void end_everything(FinishReason reason, const std::string& error = {});
    static void end_unbegun(const Waiting& waiting, FinishReason reason, const std::string& error = {});
    int64_t tokens_of_full_cache(const GenerationRequest& request, const SequenceConfig& config) const;
    std::optional<Refusal> refusal(size_t n_choices) const;
    std::vector<Waiting>::iterator next_waiting();
    void admit();
    bool admit(Waiting& waiting);
    std::vector<Resident> go_on(const Waiting& waiting);
    bool take_stores(uint64_t n_bytes);
    double decode();
    double seconds_to_read(size_t n_sequences, double decode_seconds);
    void read(double seconds_to_read);
    Running* next_to_read();
    void begin_staging(Running& running);
    void retire();
    void keep(Resident&& resident);
    void drop(Resident& resident);
    void drop_oldest();
    static SlotReport report_of(const Waiting& waiting, size_t n_ahead);
    static SlotReport report_of(const Running& running, bool with_text);
    static SlotReport report_of(const Resident& resident, SlotState state, bool with_text);
    size_t n_waiting();
    size_t n_sequences() const { return static_cast<size_t>(options_.pool.n_parallel); }

    /// Lets the computing thread do something between two steps, and waits for it.
    template <typename Work>
    auto between_steps(Work work) -> decltype(work());

    std::shared_ptr<const EngineState> engine_;
    SchedulerOptions options_;
    Accountant accountant_;  // of all sequences
    KvPool pool_;

    std::mutex mutex_;  // of what follows, up to the line
    std::condition_variable changed_;
    std::vector<Waiting> waiting_;
    std::vector<std::packaged_task<void()>> tasks_;
    double usual_seconds_ = 1;  // that a request runs
    size_t n_running_ = 0;      // sequences
    bool closed_ = false;
    bool stopping_ = false;
    bool stopped_ = false;

    // ---- of the computing thread
    std::list<Running> running_;
    std::list<Resident> idle_;  // the one that was used last is first
    std::unique_ptr<GraphRunner> runner_;
    Running* first_reading_ = nullptr;
    double balance_seconds_ = 0;                  // that the first prompt was read for, beyond the shortest
    double credit_seconds_ = 0;                   // that reading may take before the next step of decoding
    std::map<size_t, StepSeconds> step_seconds_;  // that decoding takes for so many sequences
    bool has_read_ = false;                       // since the last step of decoding
    int64_t n_evicted_slots_ = 0;                 // of sequences that are gone

    std::thread thread_;
};

template <typename Work>
auto Scheduler::between_steps(Work work) -> decltype(work()) {
    std::packaged_task<decltype(work())()> task(std::move(work));
    auto result = task.get_future();
    std::unique_lock lock(mutex_);
    if (stopped_) {  // nobody computes any more
        lock.unlock();
        task();
        return result.get();
    }
    tasks_.emplace_back([task = std::move(task)]() mutable { task(); });
    lock.unlock();
    changed_.notify_all();
    return result.get();
}

}  // namespace cake
