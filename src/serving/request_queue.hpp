#pragma once

#include <algorithm>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "serving/annotated_mutex.hpp"
#include "serving/cached_sequence.hpp"
#include "serving/generation.hpp"
#include "serving/refusal.hpp"

namespace cake {

/// A request that has been checked and waits for its turn.
struct WaitingRequest {
    std::shared_ptr<const GenerationRequest> request;
    std::shared_ptr<Generation> generation;
    std::vector<CachedSequence> sequences;  // empty ones, one for each choice

    /// Tells all choices that they ended before they began.
    void end(FinishReason reason, const std::string& error = {}) const;
};

/// What passes from the threads that ask to the thread that computes: requests, and questions about what runs.
class RequestQueue {
  public:
    /// `n_sequences` generate at once; `n_queue` requests may wait beyond those that can begin.
    RequestQueue(size_t n_sequences, size_t n_queue) : n_sequences_(n_sequences), n_queue_(n_queue) {}

    // ---- from any thread

    /// Takes a request, or says why not.
    std::optional<Refusal> push(WaitingRequest request) CAKE_EXCLUDES(mutex_);
    /// Why no request is taken now, whatever it is.
    std::optional<Refusal> refusal() CAKE_EXCLUDES(mutex_);
    /// Takes no more requests.
    void close() CAKE_EXCLUDES(mutex_);
    /// Whether requests wait or run.
    bool is_busy() CAKE_EXCLUDES(mutex_);
    /// Ends wait().
    void stop() CAKE_EXCLUDES(mutex_);
    /// Lets the computing thread do something between two steps, and waits for its result.
    template <typename Work>
    auto between_steps(Work work) -> decltype(work()) {
        const auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
        if (!push_task([task] { (*task)(); })) (*task)();
        return task->get_future().get();
    }

    // ---- from the computing thread

    /// Waits until there is something to do; `is_running`: there is anyhow. False after stop().
    bool wait(bool is_running) CAKE_EXCLUDES(mutex_);
    void run_tasks() CAKE_EXCLUDES(mutex_);
    /// From here on tasks run at once, on the threads that ask.
    void no_more_steps() CAKE_EXCLUDES(mutex_);

    /// Offers the requests that wait, the one of the client with the fewest running first, and takes out those that
    /// `admit` takes; stops at the first that it does not: nobody overtakes it. `n_running(client)`.
    void admit(const std::function<size_t(const std::string& client)>& n_running,
               const std::function<bool(WaitingRequest& request)>& admit) CAKE_EXCLUDES(mutex_);
    /// Takes out all, or those that nobody wants any more.
    std::vector<WaitingRequest> take_all() CAKE_EXCLUDES(mutex_);
    std::vector<WaitingRequest> take_cancelled() CAKE_EXCLUDES(mutex_);

    /// A request of `n_choices` has ended after `seconds`.
    void ended(size_t n_choices, double seconds) CAKE_EXCLUDES(mutex_);
    /// After an error that left the count in doubt.
    void nothing_runs() CAKE_EXCLUDES(mutex_);
    size_t n_running() CAKE_EXCLUDES(mutex_);  // sequences

    size_t n_waiting() CAKE_EXCLUDES(mutex_);
    /// Calls `visit(request, requests before it)` for all that wait.
    template <typename Visit>
    void for_each_waiting(Visit visit) CAKE_EXCLUDES(mutex_) {
        const MutexLock lock(mutex_);
        for (size_t i = 0; i < waiting_.size(); i++) visit(std::as_const(waiting_[i]), i);
    }

  private:
    std::optional<Refusal> refusal(size_t n_choices) const CAKE_REQUIRES(mutex_);
    /// False if there are no more steps.
    bool push_task(std::function<void()> task) CAKE_EXCLUDES(mutex_);

    const size_t n_sequences_;
    const size_t n_queue_;
    Mutex mutex_;
    MutexCondition changed_;
    std::vector<WaitingRequest> waiting_ CAKE_GUARDED_BY(mutex_);
    std::vector<std::function<void()>> tasks_ CAKE_GUARDED_BY(mutex_);
    double usual_seconds_ CAKE_GUARDED_BY(mutex_) = 1;  // that a request runs
    size_t n_running_ CAKE_GUARDED_BY(mutex_) = 0;      // sequences
    bool closed_ CAKE_GUARDED_BY(mutex_) = false;
    bool stopping_ CAKE_GUARDED_BY(mutex_) = false;
    bool has_steps_ CAKE_GUARDED_BY(mutex_) = true;
};

}  // namespace cake
