#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cake/constraint.hpp"
#include "cake/engine.hpp"
#include "cake/error.hpp"
#include "cake/export.hpp"
#include "cake/sampling.hpp"
#include "cake/sequence.hpp"

namespace cake {

/// Size of the K/V memory that many sequences share.
struct PoolOptions {
    SequenceOptions sequence{};          // options that the memory is divided for
    std::optional<uint64_t> kv_bytes{};  // size of all stores and staging layers; not set: as `sequence` requires
    int32_t n_parallel = 4;              // maximum number of sequences that run concurrently
    int64_t n_ctx = 0;                   // max tokens of a prompt and its answer; 0: as the model was trained
    int64_t segment = 0;                 // tokens to prefill at a time; 0: all
    /// Reserve memory for the replay that some policies need while a text is read, although that of `sequence` does
    /// not.
    bool may_replay = false;
};

struct BatcherOptions {
    PoolOptions pool{};
    int32_t n_queue = 128;  // maximum number of waiting requests
};

/// Limits how many tokens an answer spends on reasoning. It is then made to end its reasoning.
struct ReasoningLimit {
    std::string begin{};   // what the model writes before its reasoning
    std::string end{};     // what it writes behind it
    std::string ending{};  // text with `end` that it is made to write
    int64_t max_tokens = 0;
    bool is_begun = false;  // the prompt ends with `begin`
};

/// The beginning of a prompt with which other prompts begin, too, such as the system message and the tools of an agent.
/// The batcher reads it as a text of its own and keeps a copy, from which prompts with the same beginning and the same
/// `cache_salt` continue.
struct PromptPrefix {
    static constexpr int64_t kMinTokens = 256;  // shorter ones are not worth a copy

    int64_t n_tokens = 0;  // 0: none
    /// Keep it even if it takes more than half of the budget. The eviction then has to choose without the question.
    bool may_evict = false;
};

/// A text that was saved after Conversation::begin(), and with which a prompt begins. It is loaded instead of being
/// read.
struct SavedText {
    std::string path{};            // empty: none
    std::string name{};            // for errors
    int64_t n_tokens = 0;          // tokens at the beginning of the prompt that it holds
    int64_t tokens_per_layer = 0;  // its budget, which is a part of that of the request
    int64_t longest_run = 0;       // tokens of the KV head that holds the most of it, in any layer
    uint64_t note_hash = 0;        // XXH3 of its note
};

/// A request to the batcher: a prompt and the number of answers to generate.
struct GenerationRequest {
    std::string id{};
    std::string client{};      // waiting requests of different clients take turns
    std::string cache_salt{};  // only requests with the same one continue from each other's sequences
    std::vector<Token> prompt{};
    PromptPrefix prefix{};
    /// Tokens up to the end of the last message, before what the chat template puts in front of an answer; 0: unknown.
    /// A model with recurrent layers can be taken back to there if the whole prompt fits into the budget.
    int64_t n_messages = 0;
    SavedText saved{};           // the options of `sequence`, but for the budget, are those that it was saved with
    SequenceOptions sequence{};  // copy BatcherLimits::sequence for what the memory is divided for
    SamplingOptions sampling{};  // each further choice uses the next seed
    std::optional<Constraint> constraint{};
    std::optional<ReasoningLimit> reasoning{};
    std::vector<std::string> stop{};  // an answer ends with the token that completes one of these
    int32_t n_choices = 1;
    int64_t max_tokens = -1;  // -1: until the model ends the text or the context is full
    bool ignore_eos = false;  // draw no end-of-generation token, unless the constraint allows no other
    int32_t n_logprobs = -1;  // number of likeliest tokens to report with each token; -1: no log probabilities at all
    /// Report the probabilities that tokens were drawn with, after all steps of sampling, instead of the model's.
    bool post_sampling_probs = false;
    bool prompt_logprobs = false;  // report those of the prompt's tokens too; this prompt is read from its beginning
    bool reuse = true;  // continue from a cached sequence if the prompt begins with its text, and use `prefix`
};

struct TokenLogprob {
    Token token = 0;
    float logprob = 0;
};

struct TokenDrawn {
    int32_t choice = 0;
    Token token = 0;
    float logprob = 0;                      // log of the softmax of the model's logits, if requested
    std::vector<TokenLogprob> likeliest{};  // most likely first
};

/// The prefill of the prompt is done.
struct PromptRead {
    int64_t n_cached = 0;              // prompt tokens that came from a cached sequence
    std::vector<TokenDrawn> tokens{};  // the prompt's tokens after the first, with log probabilities, if requested
};

struct ChoiceEnded {
    int32_t choice = 0;
    FinishReason reason = FinishReason::length;
    Error error{};               // set if it failed
    bool by_constraint = false;  // true if it failed because the constraint allows no further token
};

struct GenerationEvent {
    std::variant<PromptRead, TokenDrawn, ChoiceEnded> what;
    std::chrono::steady_clock::time_point when;
};

/// Events of one submitted request.
class CAKE_API Generation {
  public:
    virtual ~Generation() = default;

    /// Waits for the next event, at most for `most`. Returns nothing if there is none.
    virtual std::optional<GenerationEvent> next(std::chrono::milliseconds most) = 0;
    /// Waits for the next event. Returns nothing after all choices have ended, as they do at the latest when the
    /// batcher is destroyed.
    virtual std::optional<GenerationEvent> next() = 0;
    /// Cancels the request; it ends within one step.
    virtual void cancel() = 0;
};

/// Reason why a request was not accepted.
struct Refusal {
    enum class Reason { invalid, too_long, budget, constraint, busy, lost };
    Reason reason = Reason::invalid;
    std::string message{};
    std::chrono::seconds retry_after{0};  // set if the reason is `busy`
};

enum class SlotState { queued, reading, generating, idle, prefix };

/// A waiting or running request, a cached sequence (`idle`), or the beginning of several prompts (`prefix`).
struct SlotReport {
    std::string id{};
    SlotState state = SlotState::idle;
    int64_t queue_position = 0;  // 1 for the first waiting request; 0 if it does not wait
    int64_t n_prompt = 0;
    int64_t n_read = 0;  // prompt tokens prefilled so far, cached ones included
    int64_t n_cached = 0;
    int64_t n_generated = 0;
    std::string policy{};
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
    std::vector<DeviceMemoryReport> devices;  // without their budgets; empty if the CPU computes all layers
    int64_t n_waiting = 0;
    int64_t n_reading = 0;
    int64_t n_generating = 0;
    int64_t n_idle = 0;
    int64_t n_evicted_tokens = 0;  // since the start; a token counts once for each layer that evicts it
};

/// Names a cached sequence (`idle`) with this `cache_salt`: by the ID of its last answer or, if `id` is empty, as the
/// `index`-th most recently used one.
struct SlotName {
    std::string id{};
    size_t index = 0;
    std::string cache_salt{};
};

struct SlotFile {
    int64_t n_tokens = 0;
    uint64_t n_bytes = 0;  // size of the file
};

/// What a batcher's options come to with its model.
struct BatcherLimits {
    SequenceOptions sequence{};  // PoolOptions::sequence, with the budget that fits the memory
    int64_t n_ctx = 0;           // max tokens of a prompt and its answer
    int32_t n_parallel = 0;
    int32_t n_queue_of_client = 0;  // requests of one client that may wait
    uint64_t kv_bytes = 0;          // bound on all K/V memory, the sum of the next two
    uint64_t bytes_of_stores = 0;   // for what sequences keep
    uint64_t bytes_of_staging = 0;  // for the staging layers of running prefills
};

/// Runs many requests concurrently in a fixed amount of K/V memory (docs/how-it-works.md, Serving many requests). One
/// thread computes. Each decoding step adds a token to every sequence that is generating. Between two decoding steps,
/// prompts are prefilled in steps of one chunk in one layer, for at most about as long as decoding takes. Requests that
/// exceed `n_parallel` sequences or the memory wait. All functions may be called from any thread.
class CAKE_API Batcher {
  public:
    /// Fails if the K/V memory is too small; the error states the minimum.
    static Result<std::unique_ptr<Batcher>> start(const Engine& engine, const BatcherOptions& options = {});
    /// Ends all requests.
    virtual ~Batcher() = default;

    /// Refuses a request that is invalid or can never fit.
    virtual std::expected<std::shared_ptr<Generation>, Refusal> submit(GenerationRequest request) = 0;
    /// The reason why any request would be refused now; nothing if requests are accepted.
    virtual std::optional<Refusal> refusal() = 0;

    /// Refuses all further requests; waiting and running ones continue.
    virtual void close() = 0;
    /// True if requests are waiting or running.
    virtual bool is_busy() = 0;
    /// Like close(), and cancels all waiting and running requests.
    virtual void end_all() = 0;

    /// For on_lost_server(): ends all requests with this error and refuses all further ones with it. Reports are still
    /// given. The computing thread never returns, so the batcher must not be destroyed: end the process instead.
    virtual void lose(const std::string& message) = 0;

    virtual const BatcherLimits& limits() const = 0;
    virtual PoolReport report() = 0;
    virtual std::vector<SlotReport> slots() = 0;
    /// The report of one request, including its tokens and how many layers hold each of them; nothing if the ID is
    /// unknown.
    virtual std::optional<SlotReport> slot(const std::string& id) = 0;

    // While a file is written or read, no request is computed.

    /// Writes a cached sequence and its text to a session file.
    virtual Result<SlotFile> save_slot(const SlotName& name, const std::string& path) = 0;
    /// Loads a sequence from a file of save_slot(), with the ID `id`. Fails if it was saved with another `cache_salt`,
    /// or if it does not fit into the memory that running requests leave.
    virtual Result<SlotFile> load_slot(const std::string& path, const std::string& id,
                                       const std::string& cache_salt) = 0;
    /// Drops a cached sequence. Returns its number of tokens.
    virtual Result<int64_t> erase_slot(const SlotName& name) = 0;
};

}  // namespace cake
