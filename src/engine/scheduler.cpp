#include "engine/scheduler.hpp"

#include <algorithm>
#include <cmath>
#include <format>
#include <new>
#include <utility>

#include "engine/decode.hpp"
#include "engine/engine_state.hpp"
#include "engine/out_of_memory.hpp"
#include "engine/staging_layer.hpp"
#include "engine/text_prefill.hpp"

namespace cake {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::unexpected<Refusal> refuse(std::string message, Refusal::Reason reason = Refusal::Reason::invalid) {
    return std::unexpected(Refusal{.reason = reason, .message = std::move(message)});
}

uint64_t bytes_of(const auto& residents) {
    uint64_t n = 0;
    for (const auto& resident : residents) n += resident.kv_bytes;
    return n;
}

}  // namespace

Result<std::unique_ptr<Scheduler>> Scheduler::start(const Engine& engine, const SchedulerOptions& options) {
    auto pool = KvPool::create(engine.state(), options.pool);
    if (!pool) return std::unexpected(pool.error());
    return std::unique_ptr<Scheduler>(new Scheduler(engine, std::move(*pool), options));
}

Scheduler::Scheduler(const Engine& engine, KvPool pool, const SchedulerOptions& options)
    : engine_(engine.state()),
      options_(options),
      pool_(std::move(pool)),
      runner_(std::make_unique<GraphRunner>(engine_->compute, accountant_)),
      thread_([this] { run(); }) {}

Scheduler::~Scheduler() {
    {
        const std::scoped_lock lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

std::expected<std::shared_ptr<Generation>, Refusal> Scheduler::submit(GenerationRequest request) {
    auto waiting = prepare(std::move(request));
    if (!waiting) return std::unexpected(waiting.error());
    auto generation = waiting->generation;
    {
        const std::scoped_lock lock(mutex_);
        if (auto busy = refusal(waiting->residents.size())) return std::unexpected(std::move(*busy));
        waiting_.push_back(std::move(*waiting));
    }
    changed_.notify_all();
    return generation;
}

std::optional<Refusal> Scheduler::refusal() {
    const std::scoped_lock lock(mutex_);
    return refusal(1);
}

std::optional<Refusal> Scheduler::refusal(size_t n_choices) const {
    if (closed_ || stopping_) {
        constexpr std::chrono::seconds kRestart(10);
        return Refusal{.reason = Refusal::Reason::busy,
                       .message = "the server is being stopped and takes no more requests",
                       .retry_after = kRestart};
    }
    const size_t n_ahead = waiting_.size();
    size_t n_begun = n_running_ + n_choices;
    for (const auto& waiting : waiting_) n_begun += waiting.residents.size();
    const bool begins_at_once = n_begun <= n_sequences();
    if (begins_at_once || n_ahead < static_cast<size_t>(options_.n_queue)) return std::nullopt;
    constexpr int64_t kLongest = 60;
    const size_t n_rounds = n_ahead / n_sequences() + 1;
    const double seconds = usual_seconds_ * static_cast<double>(n_rounds);
    return Refusal{
        .reason = Refusal::Reason::busy,
        .message = options_.n_queue == 0
                       ? "all sequences are taken, and no request may wait: try again later"
                       : std::format("{} requests are waiting already, and no more may: try again later", n_ahead),
        .retry_after = std::chrono::seconds(std::clamp<int64_t>(std::llround(seconds), 1, kLongest))};
}

/// Everything that can be said against a request, and what it needs to begin.
std::expected<Scheduler::Waiting, Refusal> Scheduler::prepare(GenerationRequest request) {
    const auto n_prompt = static_cast<int64_t>(request.prompt.size());
    const int32_t n_parallel = options_.pool.n_parallel;
    if (request.n_choices < 1 || request.n_choices > n_parallel)
        return refuse(std::format("{} answers at once are not possible: 1 to {} are (--parallel)", request.n_choices,
                                  n_parallel));
    if (n_prompt + 1 > pool_.n_ctx()) {
        return std::unexpected(Refusal{
            .reason = Refusal::Reason::too_long,
            .message = std::format("the prompt has {} tokens, and with its answer it has to fit into the context "
                                   "of {}: send a shorter one, or start the server with a larger context (-c)",
                                   n_prompt, pool_.n_ctx())});
    }
    request.sequence.max_tokens = pool_.n_ctx();
    Waiting waiting{.request = nullptr, .generation = std::make_shared<Generation>()};
    uint64_t staging_bytes = 0;
    for (int32_t i = 0; i < request.n_choices; i++) {
        auto config = SequenceConfig::make(engine_, request.sequence);
        if (!config) return refuse(config.error().message, Refusal::Reason::budget);
        if (!config->evicts()) config->options.max_tokens = tokens_of_full_cache(request, *config);
        const auto plan = config->plan(n_prompt);
        if (!plan) return refuse(plan.error().message, Refusal::Reason::budget);
        staging_bytes = pool_.staging_bytes(*config, plan->tokens_per_layer, n_prompt);
        const uint64_t n_bytes = planned_bytes(engine_->compute.buffer_type(), config->layout, *plan);
        auto state = std::make_unique<SequenceParts>(std::move(*config), &accountant_);
        if (auto checked = check_text(*state, request.prompt); !checked) return refuse(checked.error().message);
        waiting.residents.push_back({.id = request.id,
                                     .state = std::move(state),
                                     .tokens_per_layer = plan->tokens_per_layer,
                                     .kv_bytes = n_bytes});
    }
    const uint64_t n_bytes = bytes_of(waiting.residents);
    if (n_bytes > pool_.bytes_of_stores() || staging_bytes > pool_.bytes_of_staging()) {
        return refuse(std::format("this needs {} bytes of K/V memory and {} for the layer that is read, and the server "
                                  "has {} and {}: a smaller budget or a shorter text would fit",
                                  n_bytes, staging_bytes, pool_.bytes_of_stores(), pool_.bytes_of_staging()),
                      Refusal::Reason::budget);
    }
    if (request.grammar) {
        if (auto read = Grammar::create(engine_->vocabulary.get(), *request.grammar); !read)
            return refuse(read.error().message, Refusal::Reason::grammar);
    }
    waiting.request = std::make_shared<const GenerationRequest>(std::move(request));
    return waiting;
}

/// Room for the text as it is, with an answer of usual length where no other is asked for, as far as there can be; what
/// a sequence has anyhow is left to the turns that may follow.
int64_t Scheduler::tokens_of_full_cache(const GenerationRequest& request, const SequenceConfig& config) const {
    constexpr int64_t kUsualAnswer = 1024;
    const auto n_prompt = static_cast<int64_t>(request.prompt.size());
    const int64_t least = std::min(pool_.tokens_of_full_cache(config, options_.pool.n_parallel), pool_.n_ctx());
    const int64_t possible = pool_.tokens_of_full_cache(config, request.n_choices) - n_prompt - 1;
    const int64_t answer = request.max_tokens >= 0 ? std::min(request.max_tokens, pool_.n_ctx())
                                                   : std::clamp<int64_t>(possible, 0, kUsualAnswer);
    return std::clamp(n_prompt + answer + 1, least, pool_.n_ctx());
}

void Scheduler::close() {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
}

bool Scheduler::is_busy() {
    const std::scoped_lock lock(mutex_);
    return n_running_ > 0 || !waiting_.empty();
}

void Scheduler::end_all() {
    close();
    between_steps([this] { end_everything(FinishReason::cancelled); });
}

// ---- the computing thread

void Scheduler::run() {
    while (wait_for_work()) {
        run_tasks();
        try {
            end_cancelled();
            admit();
            read(decode());
            retire();
        } catch (const std::bad_alloc&) {
            recover();
        }
    }
    end_everything(FinishReason::cancelled);
    {
        const std::scoped_lock lock(mutex_);
        stopped_ = true;
    }
    run_tasks();
}

/// Memory ran out in the scheduler's own lists, which are small: all that runs is ended, and counted anew.
void Scheduler::recover() {
    end_everything(FinishReason::failed, out_of_memory().error().message);
    retire();
    pool_.recount(bytes_of(idle_));
    const std::scoped_lock lock(mutex_);
    n_running_ = 0;
}

void Scheduler::end_everything(FinishReason reason, const std::string& error) {
    for (auto& running : running_) running.answering->end_all(reason, error);
    const std::scoped_lock lock(mutex_);
    for (const auto& waiting : waiting_) end_unbegun(waiting, reason, error);
    waiting_.clear();
}

void Scheduler::end_unbegun(const Waiting& waiting, FinishReason reason, const std::string& error) {
    for (int32_t i = 0; i < waiting.request->n_choices; i++)
        waiting.generation->tell(ChoiceEnded{.choice = i, .reason = reason, .error = error});
}

bool Scheduler::wait_for_work() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stopping_ || !running_.empty() || !waiting_.empty() || !tasks_.empty(); });
    return !stopping_;
}

void Scheduler::run_tasks() {
    std::vector<std::packaged_task<void()>> tasks;
    {
        const std::scoped_lock lock(mutex_);
        tasks.swap(tasks_);
    }
    for (auto& task : tasks) task();
}

void Scheduler::end_cancelled() {
    for (auto& running : running_)
        if (running.answering->generation().cancelled()) running.answering->end_all(FinishReason::cancelled);
    retire();
    const std::scoped_lock lock(mutex_);
    std::erase_if(waiting_, [](const Waiting& waiting) {
        if (waiting.generation->cancelled()) end_unbegun(waiting, FinishReason::cancelled);
        return waiting.generation->cancelled();
    });
}

/// The oldest request of the client that has the fewest running.
std::vector<Scheduler::Waiting>::iterator Scheduler::next_waiting() {
    return std::ranges::min_element(waiting_, {}, [&](const Waiting& waiting) {
        return std::ranges::count_if(running_, [&](const Running& running) {
            return running.answering->request().client == waiting.request->client;
        });
    });
}

void Scheduler::admit() {
    const std::scoped_lock lock(mutex_);
    while (!waiting_.empty()) {
        const auto next = next_waiting();
        if (!admit(*next)) return;  // nobody overtakes it
        waiting_.erase(next);
    }
}

bool Scheduler::admit(Waiting& waiting) {
    const auto n_choices = static_cast<size_t>(waiting.request->n_choices);
    if (n_running_ + n_choices > n_sequences()) return false;
    auto residents = go_on(waiting);
    const size_t n_cached = residents.empty() ? 0 : residents.front().tokens.size();
    if (residents.empty()) {
        if (!take_stores(bytes_of(waiting.residents))) return false;
        residents = std::move(waiting.residents);
    }
    n_running_ += n_choices;
    auto answering = std::make_unique<Answering>(waiting.request, waiting.generation, std::move(residents), n_cached,
                                                 pool_.segment());
    auto& running = running_.emplace_back();
    running.answering = std::move(answering);
    running.since = Clock::now();
    // One that has answered stays as long as there is a place for it.
    while (!idle_.empty() && idle_.size() + n_running_ > n_sequences()) drop_oldest();
    return true;
}

/// The sequence in memory that the prompt goes on from, cut to what they have in common; none where there is none.
std::vector<Resident> Scheduler::go_on(const Waiting& waiting) {
    const auto& request = *waiting.request;
    std::vector<Resident> result;
    if (!request.reuse || request.n_choices != 1) return result;
    const auto& options = waiting.residents.front().state->config.options;
    auto best = idle_.end();
    size_t most = 0;
    for (auto it = idle_.begin(); it != idle_.end(); ++it) {
        const size_t n = reusable_tokens(*it, options, request.prompt);
        if (n > most) {
            most = n;
            best = it;
        }
    }
    if (best == idle_.end()) return result;
    rewind(*best, most);
    result.push_back(std::move(*best));
    idle_.erase(best);
    return result;
}

/// Takes so much from the pool, from sequences that only wait for a next turn where it has to be.
bool Scheduler::take_stores(uint64_t n_bytes) {
    if (n_bytes > pool_.stores_left() + bytes_of(idle_)) return false;
    while (!pool_.take_store(n_bytes)) drop_oldest();
    return true;
}

void Scheduler::drop_oldest() {
    drop(idle_.back());
    idle_.pop_back();
}

/// A token for every sequence that generates; the seconds that may be read for before the next one, 0 where nobody
/// generates.
double Scheduler::decode() {
    const auto begin = Clock::now();
    std::vector<NextToken> batch;
    for (auto& running : running_)
        if (!running.answering->is_reading()) running.answering->join(batch);
    if (batch.empty()) return 0;
    const auto computed = within_memory([&] { return cake::decode(batch, *runner_); });
    for (auto& running : running_)
        if (!running.answering->is_reading()) running.answering->take(computed);
    return seconds_to_read(batch.size(), seconds_since(begin));
}

/// As much as makes the time between two tokens hardly twice what it is while nothing is read. A step behind a step of
/// reading finds the processor's caches full of something else and takes longer; but reading always gets on.
double Scheduler::seconds_to_read(size_t n_sequences, double decode_seconds) {
    constexpr double kTimes = 1.9;  // what is not measured here takes its time, too
    constexpr double kLeast = 0.25;
    auto& [alone, behind_reading] = step_seconds_[n_sequences];
    (has_read_ ? behind_reading : alone).add(decode_seconds);
    has_read_ = false;
    if (alone.n == 0) return decode_seconds;
    // What was measured before a long text came may have been a slow moment of the machine.
    const double undisturbed = behind_reading.n == 0 ? alone.value : std::min(alone.value, behind_reading.value);
    return std::clamp(kTimes * undisturbed - decode_seconds, kLeast * decode_seconds, decode_seconds);
}

/// Reads prompts for so long, or one step where nobody decodes. A step may take longer than there is time for; the next
/// steps of decoding pay for that.
void Scheduler::read(double seconds_to_read) {
    credit_seconds_ = std::min(credit_seconds_ + seconds_to_read, seconds_to_read);
    const bool idle = seconds_to_read == 0;
    while (idle || credit_seconds_ > 0) {
        auto* const running = next_to_read();
        if (running == nullptr) return;
        const auto begin = Clock::now();
        running->answering->read_on();
        has_read_ = true;
        const double seconds = seconds_since(begin);
        balance_seconds_ += running == first_reading_ ? seconds : -seconds;
        credit_seconds_ -= seconds;
        if (idle || !running->answering->is_reading()) break;
    }
    if (idle) credit_seconds_ = 0;
}

/// The prompt that came first and the one that has least left get equally much time: short prompts do not wait for long
/// ones to end, nor these for ever for short ones. One that finds no place for its staging layer waits, and when it
/// has waited long no other begins.
Scheduler::Running* Scheduler::next_to_read() {
    constexpr double kLong = 5;
    Running* first = nullptr;
    Running* shortest = nullptr;
    bool others_wait = false;
    for (auto& running : running_) {
        const auto& answering = *running.answering;
        if (!answering.is_reading()) continue;
        if (running.staging_bytes == 0 && !others_wait) begin_staging(running);
        if (running.staging_bytes == 0) {
            others_wait = others_wait || seconds_since(running.since) > kLong;
            continue;
        }
        const auto left = [](const Running& r) {
            return std::ssize(r.answering->request().prompt) - r.answering->n_read();
        };
        if (first == nullptr) first = &running;
        if (shortest == nullptr || left(running) < left(*shortest)) shortest = &running;
    }
    if (first == shortest || first != first_reading_) balance_seconds_ = 0;
    first_reading_ = first;
    return balance_seconds_ > 0 ? shortest : first;
}

void Scheduler::begin_staging(Running& running) {
    const auto& answering = *running.answering;
    const auto& resident = answering.choices().front().resident;
    int64_t n_tokens = std::ssize(answering.request().prompt);
    if (answering.n_cached() > 0) n_tokens += most_held(*resident.state) - answering.n_cached();
    const uint64_t n_bytes = pool_.staging_bytes(resident.state->config, resident.tokens_per_layer, n_tokens);
    if (pool_.take_staging(n_bytes)) running.staging_bytes = n_bytes;
}

/// Gives back what those that have ended do not need; their sequences stay, for a next turn.
void Scheduler::retire() {
    for (auto it = running_.begin(); it != running_.end();) {
        auto& answering = it->answering;
        if (!answering->is_reading()) pool_.give_staging(std::exchange(it->staging_bytes, 0));
        if (!answering->has_ended()) {
            ++it;
            continue;
        }
        for (auto& resident : answering->leave()) {
            if (resident.state->status.is_broken() || resident.tokens.empty())
                drop(resident);
            else
                keep(std::move(resident));
        }
        if (&*it == first_reading_) first_reading_ = nullptr;
        const std::scoped_lock lock(mutex_);
        n_running_ -= static_cast<size_t>(answering->request().n_choices);
        usual_seconds_ += (seconds_since(it->since) - usual_seconds_) / 8;
        it = running_.erase(it);
    }
}

void Scheduler::keep(Resident&& resident) {
    resident.state->progress.logits = {};  // whoever goes on reads first
    resident.state->decode_runner.reset();
    idle_.push_front(std::move(resident));
}

void Scheduler::drop(Resident& resident) {
    n_evicted_slots_ += resident.state->progress.n_evicted_slots;
    pool_.give_store(resident.kv_bytes);
    resident.state.reset();
}

}  // namespace cake
