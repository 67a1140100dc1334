#include "serving/batch_loop.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <system_error>
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

}  // namespace

Result<std::unique_ptr<Batcher>> Batcher::start(const Engine& engine, const BatcherOptions& options) {
    return BatchLoop::start(engine, options);
}

Result<std::unique_ptr<BatchLoop>> BatchLoop::start(const Engine& engine, const BatcherOptions& options) {
    constexpr int32_t kMaxSequences = 4096;
    if (options.pool.n_parallel < 1 || options.pool.n_parallel > kMaxSequences) {
        return fail(
            fmt::format("{} sequences at once are not possible: use 1 to {}", options.pool.n_parallel, kMaxSequences));
    }
    if (options.pool.segment < 0) return fail("a segment must hold 1 token or more (0: the whole text)");
    if (options.n_queue < 0) return fail("the queue must hold 0 or more requests");
    auto pool = KvPool::create(EngineAccess::state(engine), options.pool);
    if (!pool) return std::unexpected(pool.error());
    try {
        return std::unique_ptr<BatchLoop>(new BatchLoop(engine, std::move(*pool), options));
    } catch (const std::bad_alloc&) {
        return out_of_memory();
    } catch (const std::system_error& error) {
        return fail(Error::Code::internal, fmt::format("no thread for the batcher: {}", error.what()));
    }
}

BatchLoop::BatchLoop(const Engine& engine, KvPool pool, const BatcherOptions& options)
    : engine_(EngineAccess::state(engine)),
      limits_{.sequence = pool.sequence(),
              .n_ctx = pool.n_ctx(),
              .n_parallel = options.pool.n_parallel,
              .n_queue_of_client =
                  static_cast<int32_t>(RequestQueue::share_of_client(static_cast<size_t>(options.n_queue))),
              .kv_bytes = pool.bytes_bound(),
              .bytes_of_stores = pool.bytes_of_stores(),
              .bytes_of_staging = pool.bytes_of_staging()},
      pool_(std::move(pool)),
      queue_(static_cast<size_t>(options.pool.n_parallel), static_cast<size_t>(options.n_queue)),
      decoder_(engine_->compute, accountant_),
      thread_([this] { run(); }) {}

BatchLoop::~BatchLoop() {
    queue_.stop();
    thread_.join();
}

std::expected<std::shared_ptr<Generation>, Refusal> BatchLoop::submit(GenerationRequest request) try {
    auto waiting = prepare(std::move(request));
    if (!waiting) return std::unexpected(waiting.error());
    auto generation = waiting->generation;
    note_open(generation);
    if (auto busy = queue_.push(std::move(*waiting))) return std::unexpected(std::move(*busy));
    return generation;
} catch (const std::bad_alloc&) {
    return refuse(out_of_memory().error().message, Refusal::Reason::busy);
}

/// Checks a request and creates its sequences, without their caches.
std::expected<WaitingRequest, Refusal> BatchLoop::prepare(GenerationRequest request) {
    const auto n_prompt = static_cast<int64_t>(request.prompt.size());
    const int32_t n_parallel = limits_.n_parallel;
    if (request.n_choices < 1 || request.n_choices > n_parallel)
        return refuse(fmt::format("{} answers at once are not possible: ask for 1 to {} (--parallel)",
                                  request.n_choices, n_parallel));
    if (n_prompt + 1 > pool_.n_ctx()) {
        return std::unexpected(Refusal{
            .reason = Refusal::Reason::too_long,
            .message = fmt::format("the prompt has {} tokens, and with its answer it has to fit into the context "
                                   "of {}: send a shorter one, or start the server with a larger context (-c)",
                                   n_prompt, pool_.n_ctx())});
    }
    request.sequence.max_tokens = pool_.n_ctx();
    WaitingRequest waiting{.request = nullptr, .generation = std::make_shared<EventQueue>(request.n_choices)};
    uint64_t staging_bytes = 0;
    for (int32_t i = 0; i < request.n_choices; i++) {
        auto config = SequenceConfig::make(engine_, request.sequence);
        if (!config) return refuse(config.error().message, Refusal::Reason::budget);
        if (!config->evicts()) config->options.max_tokens = tokens_of_full_cache(request, *config);
        auto state = std::make_unique<SequenceParts>(std::move(*config), &accountant_);
        if (auto checked = check_text(*state, request.prompt); !checked) return refuse(checked.error().message);
        const auto plan = state->config.plan(n_prompt);
        if (!plan) return refuse(plan.error().message, Refusal::Reason::budget);
        const auto& saved = request.saved;
        staging_bytes =
            pool_.staging_bytes(state->config, plan->tokens_per_layer, n_prompt - saved.n_tokens + saved.longest_run);
        const bool may_snapshot = request.n_choices == 1 && saved.path.empty() && engine_->hparams.has_recurrent();
        const uint64_t n_bytes = planned_bytes(engine_->compute.memory(), state->config.layout, *plan) +
                                 (may_snapshot ? state->config.layout.recurrent_bytes() : 0);
        waiting.sequences.push_back({.id = request.id,
                                     .salt = request.cache_salt,
                                     .state = std::move(state),
                                     .tokens_per_layer = plan->tokens_per_layer,
                                     .kv_bytes = n_bytes,
                                     .may_snapshot = may_snapshot});
    }
    const uint64_t n_bytes = kv_bytes_of(waiting.sequences);
    if (n_bytes > pool_.bytes_of_stores() || staging_bytes > pool_.bytes_of_staging()) {
        return refuse(
            fmt::format("the request needs {} bytes of K/V memory and {} for the layer being read, and the server "
                        "has {} and {}: use a smaller budget or a shorter text",
                        n_bytes, staging_bytes, pool_.bytes_of_stores(), pool_.bytes_of_staging()),
            Refusal::Reason::budget);
    }
    if (request.constraint) {
        if (auto begun = request.constraint->rule().begin(engine_->vocabulary); !begun)
            return refuse(begun.error().message, Refusal::Reason::constraint);
    }
    waiting.request = std::make_shared<const GenerationRequest>(std::move(request));
    return waiting;
}

/// Capacity of a cache that evicts nothing: the prompt and its answer. If the request does not limit the answer, it is
/// assumed to have a usual length, or less if there is no room. The result is at least an equal share of the stores,
/// which leaves room for further turns.
int64_t BatchLoop::tokens_of_full_cache(const GenerationRequest& request, const SequenceConfig& config) const {
    constexpr int64_t kUsualAnswer = 1024;
    const auto n_prompt = static_cast<int64_t>(request.prompt.size());
    const int64_t least = std::min(pool_.tokens_of_full_cache(config, limits_.n_parallel), pool_.n_ctx());
    const int64_t possible = pool_.tokens_of_full_cache(config, request.n_choices) - n_prompt - 1;
    const int64_t answer = request.max_tokens >= 0 ? std::min(request.max_tokens, pool_.n_ctx())
                                                   : std::clamp<int64_t>(possible, 0, kUsualAnswer);
    return std::clamp(n_prompt + answer + 1, least, pool_.n_ctx());
}

void BatchLoop::note_open(const std::shared_ptr<EventQueue>& generation) {
    const MutexLock lock(open_mutex_);
    std::erase_if(open_, [](const auto& other) { return other.expired(); });
    open_.push_back(generation);
}

void BatchLoop::lose(const std::string& message) {
    queue_.lose(message);
    const MutexLock lock(open_mutex_);
    for (const auto& open : open_)
        if (const auto generation = open.lock()) generation->fail({.message = message, .code = Error::Code::internal});
}

void BatchLoop::end_all() {
    if (queue_.lost()) return;
    close();
    queue_.between_steps([this] { end_everything(FinishReason::cancelled); });
}

// ---- the compute thread

void BatchLoop::run() {
    while (queue_.wait(!running_.empty())) {
        queue_.run_tasks();
        try {
            end_cancelled();
            admit();
            decode();
            read();
            retire();
        } catch (const std::bad_alloc&) {
            recover();
        }
    }
    end_everything(FinishReason::cancelled);
    queue_.no_more_steps();
}

/// Called if memory runs out in the batcher's own code, which allocates little. Ends all requests and recounts the
/// memory that is reserved in the pool.
void BatchLoop::recover() {
    end_everything(FinishReason::failed, out_of_memory().error());
    retire();
    pool_.recount(cache_.kv_bytes());
    queue_.nothing_runs();
}

void BatchLoop::end_everything(FinishReason reason, const Error& error) {
    for (auto& running : running_) running.request->end_all(reason, error);
    for (const auto& waiting : queue_.take_all()) waiting.end(reason, error);
}

void BatchLoop::end_cancelled() {
    for (auto& running : running_)
        if (running.request->generation().cancelled()) running.request->end_all(FinishReason::cancelled);
    retire();
    for (const auto& waiting : queue_.take_cancelled()) waiting.end(FinishReason::cancelled);
}

void BatchLoop::admit() {
    const auto n_running = [this](const std::string& client) {
        return static_cast<size_t>(std::ranges::count_if(
            running_, [&](const Running& running) { return running.request->request().client == client; }));
    };
    queue_.admit(n_running, [this](WaitingRequest& waiting) { return admit(waiting); });
}

bool BatchLoop::admit(WaitingRequest& waiting) {
    const auto& request = *waiting.request;
    const auto& options = waiting.sequences.front().state->config.options;
    auto prefix = std::span(request.prompt).first(n_prefix(waiting));
    std::vector<CachedSequence> sequences;
    const auto* const kept = cache_.find_prefix(options, prefix, request.cache_salt);
    if (may_reuse(request)) {
        const size_t n_kept = kept != nullptr ? prefix.size() : static_cast<size_t>(request.saved.n_tokens);
        auto cached = cache_.take(options, request.prompt, request.cache_salt, n_kept);
        if (cached) sequences.push_back(std::move(*cached));
    }
    if (sequences.empty()) {
        if (kept != nullptr) cache_.touch(*kept);  // so that it is not dropped to make room
        if (!take_stores(kv_bytes_of(waiting.sequences))) return false;
        sequences = std::move(waiting.sequences);
        if (!prefix.empty()) begin_with_prefix(sequences.front(), prefix);
    }
    if (sequences.front().tokens.size() >= prefix.size()) prefix = {};
    auto active = std::make_unique<ActiveRequest>(waiting.request, waiting.generation, std::move(sequences),
                                                  prefix.size(), pool_.segment());
    auto& running = running_.emplace_back();
    running.request = std::move(active);
    running.since = Clock::now();
    make_room_for(0);
    return true;
}

/// Number of sequences of running requests.
size_t BatchLoop::n_running() const {
    size_t n = 0;
    for (const auto& running : running_) n += running.request->choices().size();
    return n;
}

/// Drops cached sequences, oldest first, until there is room for `n` more. Returns false if too many run.
bool BatchLoop::make_room_for(size_t n) {
    const size_t n_used = n_running() + n;
    if (n_used > n_parallel()) return false;
    while (!cache_.empty() && cache_.size() + n_used > n_parallel()) drop(cache_.take_oldest());
    return true;
}

/// Reserves memory for stores in the pool and drops cached sequences, oldest first, if necessary. Returns false if this
/// would not be enough.
bool BatchLoop::take_stores(uint64_t n_bytes) {
    if (n_bytes > pool_.stores_left() + cache_.kv_bytes()) return false;
    while (!pool_.take_store(n_bytes)) drop(cache_.take_oldest());
    return true;
}

/// Decodes one token in every sequence that is generating.
void BatchLoop::decode() {
    const auto begin = Clock::now();
    std::vector<NextToken> batch;
    for (auto& running : running_)
        if (!running.request->is_reading()) running.request->join(batch);
    if (batch.empty()) return pacer_.decoded(0, 0);
    const auto computed = within_memory([&] { return decoder_.decode(batch); });
    for (auto& running : running_)
        if (!running.request->is_reading()) running.request->take(computed);
    pacer_.decoded(batch.size(), seconds_since(begin));
}

/// Prefills prompts for as long as the pacer allows, or until one of them is done.
void BatchLoop::read() {
    while (pacer_.may_read()) {
        auto* const running = next_to_read();
        if (running == nullptr) return;
        const auto begin = Clock::now();
        if (running->request->waits_for_saved())
            running->request->begin_with([this, running](CachedSequence& sequence) {
                return begin_with_saved(sequence, running->request->request());
            });
        else
            running->request->read_on();
        if (running->request->is_at_prefix()) keep_prefix(*running->request);
        pacer_.read(seconds_since(begin), running == first_reading_);
        if (pacer_.is_idle() || !running->request->is_reading()) return;
    }
}

/// The request to prefill next: the oldest, or the one with the fewest tokens left. A request for whose staging layer
/// there is no memory waits. If one has waited long, no other request starts its prefill.
BatchLoop::Running* BatchLoop::next_to_read() {
    constexpr double kLongSeconds = 5;
    const auto left = [](const Running& r) { return std::ssize(r.request->request().prompt) - r.request->n_read(); };
    Running* first = nullptr;
    Running* shortest = nullptr;
    bool others_wait = false;
    for (auto& running : running_) {
        if (!running.request->is_reading()) continue;
        if (running.staging_bytes == 0 && !others_wait) {
            const uint64_t n_bytes = running.request->staging_bytes(pool_);
            if (pool_.take_staging(n_bytes)) running.staging_bytes = n_bytes;
        }
        if (running.staging_bytes == 0) {
            others_wait = others_wait || seconds_since(running.since) > kLongSeconds;
            continue;
        }
        if (first == nullptr) first = &running;
        if (shortest == nullptr || left(running) < left(*shortest)) shortest = &running;
    }
    if (first == shortest || first != first_reading_) pacer_.forget_balance();
    first_reading_ = first;
    return pacer_.prefers_shortest() ? shortest : first;
}

/// Releases the staging memory of requests whose prefill is done, and removes requests that have ended. Their sequences
/// are cached for a next turn.
void BatchLoop::retire() {
    for (auto it = running_.begin(); it != running_.end();) {
        auto& request = *it->request;
        if (!request.is_reading()) pool_.give_staging(std::exchange(it->staging_bytes, 0));
        if (!request.has_ended()) {
            ++it;
            continue;
        }
        for (auto& sequence : request.leave()) {
            if (sequence.state->status.is_broken() || sequence.tokens.empty())
                drop(std::move(sequence));
            else
                cache_.keep(std::move(sequence));
        }
        if (&*it == first_reading_) first_reading_ = nullptr;
        queue_.ended(static_cast<size_t>(request.request().n_choices), seconds_since(it->since));
        it = running_.erase(it);
    }
}

void BatchLoop::drop(CachedSequence sequence) {
    n_evicted_slots_ += sequence.state->progress.n_evicted_slots;
    pool_.give_store(sequence.kv_bytes);
}

}  // namespace cake
