#include "serving/request_queue.hpp"

#include <fmt/format.h>

#include <cmath>

namespace cake {

void WaitingRequest::end(FinishReason reason, const Error& error) const {
    for (int32_t i = 0; i < request->n_choices; i++)
        generation->tell(ChoiceEnded{.choice = i, .reason = reason, .error = error});
}

std::optional<Refusal> RequestQueue::push(WaitingRequest request) {
    {
        const MutexLock lock(mutex_);
        if (auto busy = refusal(request.sequences.size(), request.request->client)) return busy;
        waiting_.push_back(std::move(request));
    }
    changed_.notify_all();
    return std::nullopt;
}

std::optional<Refusal> RequestQueue::refusal() {
    const MutexLock lock(mutex_);
    return refusal(1);
}

std::optional<Refusal> RequestQueue::refusal(size_t n_choices) const {
    if (lost_) return Refusal{.reason = Refusal::Reason::lost, .message = *lost_};
    if (closed_ || stopping_) {
        constexpr std::chrono::seconds kRestart(10);
        return Refusal{.reason = Refusal::Reason::busy,
                       .message = "the server is being stopped and accepts no more requests",
                       .retry_after = kRestart};
    }
    const size_t n_ahead = waiting_.size();
    if (begins_at_once(n_choices) || n_ahead < n_queue_) return std::nullopt;
    return Refusal{
        .reason = Refusal::Reason::busy,
        .message = n_queue_ == 0
                       ? "all sequences are in use, and no request may wait: try again later"
                       : fmt::format("{} requests are already waiting, and no more may wait: try again later", n_ahead),
        .retry_after = wait_after(n_ahead)};
}

std::optional<Refusal> RequestQueue::refusal(size_t n_choices, const std::string& client) const {
    if (auto busy = refusal(n_choices)) return busy;
    const auto is_its = [&](const WaitingRequest& waiting) { return waiting.request->client == client; };
    const auto n_its = static_cast<size_t>(std::ranges::count_if(waiting_, is_its));
    if (begins_at_once(n_choices) || n_its < share_of_client(n_queue_)) return std::nullopt;
    return Refusal{
        .reason = Refusal::Reason::busy,
        .message = fmt::format(
            "{} requests of this client are already waiting, and no more of them may wait: try again later", n_its),
        .retry_after = wait_after(n_its)};
}

bool RequestQueue::begins_at_once(size_t n_choices) const {
    size_t n_begun = n_running_ + n_choices;
    for (const auto& waiting : waiting_) n_begun += waiting.sequences.size();
    return n_begun <= n_sequences_;
}

/// How long a place in the queue will probably take to be free.
std::chrono::seconds RequestQueue::wait_after(size_t n_ahead) const {
    constexpr int64_t kMaxSeconds = 60;
    const size_t n_rounds = n_ahead / n_sequences_ + 1;
    const double seconds = usual_seconds_ * static_cast<double>(n_rounds);
    return std::chrono::seconds(std::clamp<int64_t>(std::llround(seconds), 1, kMaxSeconds));
}

void RequestQueue::close() {
    const MutexLock lock(mutex_);
    closed_ = true;
}

bool RequestQueue::is_busy() {
    const MutexLock lock(mutex_);
    return !lost_ && (n_running_ > 0 || !waiting_.empty());
}

void RequestQueue::stop() {
    {
        const MutexLock lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
}

bool RequestQueue::wait(bool is_running) {
    const MutexLock lock(mutex_);
    while (!stopping_ && !is_running && waiting_.empty() && tasks_.empty()) changed_.wait(mutex_);
    return !stopping_;
}

bool RequestQueue::push_task(std::function<void()> task) {
    {
        const MutexLock lock(mutex_);
        if (!has_steps_) return false;
        tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
    return true;
}

void RequestQueue::run_tasks() {
    std::vector<std::function<void()>> tasks;
    {
        const MutexLock lock(mutex_);
        tasks.swap(tasks_);
    }
    for (auto& task : tasks) task();
}

void RequestQueue::no_more_steps() {
    {
        const MutexLock lock(mutex_);
        has_steps_ = false;
    }
    run_tasks();
}

void RequestQueue::lose(std::string message) {
    {
        const MutexLock lock(mutex_);
        lost_ = std::move(message);
    }
    no_more_steps();
}

std::optional<std::string> RequestQueue::lost() {
    const MutexLock lock(mutex_);
    return lost_;
}

void RequestQueue::admit(const std::function<size_t(const std::string& client)>& n_running,
                         const std::function<bool(WaitingRequest& request)>& admit) {
    while (auto next = take_next(n_running)) {
        // Not under the lock: other threads would wait for ever if a device goes away meanwhile.
        if (admit(next->request)) continue;
        const MutexLock lock(mutex_);
        n_running_ -= next->request.sequences.size();
        const auto index = std::min(next->index, waiting_.size());
        waiting_.insert(waiting_.begin() + static_cast<ptrdiff_t>(index), std::move(next->request));
        return;
    }
}

/// Takes out the request that is next, if there are sequences left for it, and counts it as running.
std::optional<RequestQueue::Next> RequestQueue::take_next(
    const std::function<size_t(const std::string& client)>& n_running) {
    const MutexLock lock(mutex_);
    const auto next = std::ranges::min_element(
        waiting_, {}, [&](const WaitingRequest& waiting) { return n_running(waiting.request->client); });
    if (next == waiting_.end() || n_running_ + next->sequences.size() > n_sequences_) return std::nullopt;
    n_running_ += next->sequences.size();
    Next taken{.request = std::move(*next), .index = static_cast<size_t>(next - waiting_.begin())};
    waiting_.erase(next);
    return taken;
}

std::vector<WaitingRequest> RequestQueue::take_all() {
    const MutexLock lock(mutex_);
    return std::exchange(waiting_, {});
}

std::vector<WaitingRequest> RequestQueue::take_cancelled() {
    const MutexLock lock(mutex_);
    const auto cancelled = [](const WaitingRequest& waiting) { return waiting.generation->cancelled(); };
    const auto first = std::ranges::stable_partition(waiting_, std::not_fn(cancelled)).begin();
    std::vector<WaitingRequest> taken(std::make_move_iterator(first), std::make_move_iterator(waiting_.end()));
    waiting_.erase(first, waiting_.end());
    return taken;
}

void RequestQueue::ended(size_t n_choices, double seconds) {
    const MutexLock lock(mutex_);
    n_running_ -= n_choices;
    usual_seconds_ += (seconds - usual_seconds_) / 8;
}

void RequestQueue::nothing_runs() {
    const MutexLock lock(mutex_);
    n_running_ = 0;
}

size_t RequestQueue::n_running() {
    const MutexLock lock(mutex_);
    return n_running_;
}

size_t RequestQueue::n_waiting() {
    const MutexLock lock(mutex_);
    return waiting_.size();
}

}  // namespace cake
