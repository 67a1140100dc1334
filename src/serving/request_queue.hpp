#pragma once

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "serving/annotated_mutex.hpp"
#include "serving/cached_sequence.hpp"
#include "serving/generation.hpp"

namespace cake {

/// A request that has been checked and waits in the queue.
struct WaitingRequest {
    std::shared_ptr<const GenerationRequest> request;
    std::shared_ptr<EventQueue> generation;
    std::vector<CachedSequence> sequences;  // one empty sequence for each choice

    /// Reports for all choices that they ended before they started.
    void end(FinishReason reason, const Error& error = {}) const;
};

/// Passes requests and tasks from any thread to the compute thread.
class RequestQueue {
  public:
    /// `n_sequences`: maximum number of sequences that run concurrently. `n_queue`: maximum number of waiting requests,
    /// beyond those that can start at once.
    RequestQueue(size_t n_sequences, size_t n_queue) : n_sequences_(n_sequences), n_queue_(n_queue) {}

    // ---- called from any thread

    /// Adds a request, or returns the reason why it is refused.
    std::optional<Refusal> push(WaitingRequest request) CAKE_EXCLUDES(mutex_);
    /// Number of requests of one client that may wait. It leaves places for others.
    static constexpr size_t share_of_client(size_t n_queue) { return n_queue - n_queue / 4; }
    /// The reason why any request would be refused now; nothing if requests are accepted.
    std::optional<Refusal> refusal() CAKE_EXCLUDES(mutex_);
    /// Refuses all further requests.
    void close() CAKE_EXCLUDES(mutex_);
    /// True if requests are waiting or running.
    bool is_busy() CAKE_EXCLUDES(mutex_);
    /// Like close(), and makes wait() return false.
    void stop() CAKE_EXCLUDES(mutex_);
    /// Runs `work` on the compute thread, between two steps, and returns its result. After lose(), it runs at once, on
    /// another thread, so it must then not touch a device. If the device is lost while it runs, it fails.
    template <typename Work>
    auto between_steps(Work work) -> decltype(work()) {
        const auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
        auto result = task->get_future();
        if (!push_task([task] { (*task)(); })) (*task)();
        if constexpr (std::is_constructible_v<decltype(work()), std::unexpected<Error>>) {
            constexpr std::chrono::milliseconds kPollInterval(200);
            while (result.wait_for(kPollInterval) != std::future_status::ready)
                if (auto message = lost()) return fail(Error::Code::internal, std::move(*message));
        }
        return result.get();
    }
    /// Refuses all further requests with this message, because the compute thread will never take another step.
    void lose(std::string message) CAKE_EXCLUDES(mutex_);
    /// The message of lose(); nothing before.
    std::optional<std::string> lost() CAKE_EXCLUDES(mutex_);

    // ---- called from the compute thread

    /// Waits until there is a request or a task; returns at once if `is_running`. Returns false after stop().
    bool wait(bool is_running) CAKE_EXCLUDES(mutex_);
    void run_tasks() CAKE_EXCLUDES(mutex_);
    /// Runs the remaining tasks. From now on, a task runs at once, on the thread that adds it.
    void no_more_steps() CAKE_EXCLUDES(mutex_);

    /// Passes waiting requests to `admit` and removes those that it accepts. The client with the fewest running
    /// requests is next, and its requests keep their order. Stops at the first request that does not fit or is not
    /// accepted, so that no other overtakes it. `n_running(client)`: number of running requests of a client.
    void admit(const std::function<size_t(const std::string& client)>& n_running,
               const std::function<bool(WaitingRequest& request)>& admit) CAKE_EXCLUDES(mutex_);
    /// Remove and return all waiting requests, or those that have been cancelled.
    std::vector<WaitingRequest> take_all() CAKE_EXCLUDES(mutex_);
    std::vector<WaitingRequest> take_cancelled() CAKE_EXCLUDES(mutex_);

    /// Records the end of a request with `n_choices` choices that ran for `seconds`.
    void ended(size_t n_choices, double seconds) CAKE_EXCLUDES(mutex_);
    /// Sets the number of running sequences to 0, after an error that may have left it wrong.
    void nothing_runs() CAKE_EXCLUDES(mutex_);
    size_t n_running() CAKE_EXCLUDES(mutex_);  // number of running sequences

    size_t n_waiting() CAKE_EXCLUDES(mutex_);
    /// Calls `visit(request, number of requests before it)` for all waiting requests.
    template <typename Visit>
    void for_each_waiting(Visit visit) CAKE_EXCLUDES(mutex_) {
        const MutexLock lock(mutex_);
        for (size_t i = 0; i < waiting_.size(); i++) visit(std::as_const(waiting_[i]), i);
    }

  private:
    struct Next {
        WaitingRequest request;
        size_t index;  // in waiting_
    };
    std::optional<Next> take_next(const std::function<size_t(const std::string& client)>& n_running)
        CAKE_EXCLUDES(mutex_);
    std::optional<Refusal> refusal(size_t n_choices) const CAKE_REQUIRES(mutex_);
    /// The same for a request of a client, which may not take all places of the queue.
    std::optional<Refusal> refusal(size_t n_choices, const std::string& client) const CAKE_REQUIRES(mutex_);
    bool begins_at_once(size_t n_choices) const CAKE_REQUIRES(mutex_);
    std::chrono::seconds wait_after(size_t n_ahead) const CAKE_REQUIRES(mutex_);
    /// Returns false after no_more_steps().
    bool push_task(std::function<void()> task) CAKE_EXCLUDES(mutex_);

    const size_t n_sequences_;
    const size_t n_queue_;
    Mutex mutex_;
    MutexCondition changed_;
    std::vector<WaitingRequest> waiting_ CAKE_GUARDED_BY(mutex_);
    std::vector<std::function<void()>> tasks_ CAKE_GUARDED_BY(mutex_);
    double usual_seconds_ CAKE_GUARDED_BY(mutex_) = 1;  // moving average of the time that a request runs
    size_t n_running_ CAKE_GUARDED_BY(mutex_) = 0;      // number of running sequences
    bool closed_ CAKE_GUARDED_BY(mutex_) = false;
    bool stopping_ CAKE_GUARDED_BY(mutex_) = false;
    bool has_steps_ CAKE_GUARDED_BY(mutex_) = true;
    std::optional<std::string> lost_ CAKE_GUARDED_BY(mutex_);
};

}  // namespace cake
