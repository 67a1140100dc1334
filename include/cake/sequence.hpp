#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cake/budget.hpp"
#include "cake/constraint.hpp"
#include "cake/error.hpp"
#include "cake/export.hpp"
#include "cake/sampling.hpp"
#include "cake/stream.hpp"

namespace cake {

using Token = int32_t;

/// Options of a sequence: how it decides which tokens to keep, and in which form. `scorer` and `allocator`, if set,
/// replace those of `policy`.
struct SequenceOptions {
    std::string policy = "cake+";  // name of a policy, or "SCORER:ALLOCATOR"
    /// Not set: 1,024 tokens per layer. Must not be set for kFullPolicy.
    std::optional<Budget> budget{};
    std::string scorer{};
    std::string allocator{};
    /// Size W of the observation window, 1 to 1,024. The last W tokens always stay; their queries score the others.
    int32_t window = 32;
    float gamma = 200;        // weight of the variance in the `cake` scorer
    int32_t pool_kernel = 0;  // size of the score pooling, odd; 0: the policy's (cake+ 25, cake 5, snapkv 7)
    double tau1 = 1;          // exponents in the preference: 1/tau1 of the dispersion, 1/tau2 of the shift
    double tau2 = 1;
    /// Tokens decoded between evictions; 0: 1/16 of the budget outside the window, at most 32.
    int32_t evict_interval = 0;
    std::string cache_type_k = "f16";
    std::string cache_type_v = "f16";
    int64_t max_tokens = 0;  // max tokens of text and answers; 0: no limit (`full`: the model's context length)
    uint64_t seed = 0;       // seed of the `random` scorer
    /// Report dispersion, shift and preference of every layer even if the policy does not need them.
    bool analyse = false;
    /// Keep the window's queries for attention_by_position() even if the policy does not need them.
    bool keep_queries = false;

    bool operator==(const SequenceOptions&) const = default;
};

/// Progress callback during prefill; return false to cancel. Layers are computed one after another, so `done_tokens` is
/// the share of work done, times `total_tokens`.
using ProgressFunction = std::function<bool(int64_t done_tokens, int64_t total_tokens)>;

struct AppendOptions {
    ProgressFunction progress{};
    /// Compute the logits of every appended token, not only of the last. The text must be one segment.
    bool all_logits = false;
    /// Tokens to prefill at a time, each segment over the tokens kept before it; 0: all at once. A KvRatio refers to
    /// the whole text in either case.
    int64_t segment = 0;
};

struct SaveOptions {
    /// Another text is appended after loading, before anything is generated or decoded: the file holds neither the
    /// logits after the last token nor the queries of the window, and is smaller by a few MB.
    bool more_follows = false;
};

enum class FinishReason { length, end_of_generation, cancelled, failed };

struct GenerateOptions {
    int64_t max_tokens = -1;  // -1: no limit
    bool ignore_eos = false;  // draw no token that ends the text, unless the constraint allows no other
    SamplingOptions sampling;
    std::vector<std::string> stop{};         // generation ends with the token that completes one of these strings
    std::optional<Constraint> constraint{};  // what the text must be
    std::function<bool()> cancelled{};       // checked before each token; return true to end
};

/// Cache use of one layer. Dispersion, shift and preference are not set if nothing had to be evicted or if the policy
/// does not need them.
struct LayerReport {
    std::optional<double> dispersion;
    std::optional<double> shift;
    std::optional<double> preference;
    int64_t budget = 0;                 // max tokens after an eviction, including the window
    int64_t window = 0;                 // size of the sliding window that it holds, in tokens; 0: it holds none
    int64_t kept = 0;                   // tokens that it holds: the mean over KV heads, rounded up
    bool recurrent = false;             // it holds a state of fixed size instead of tokens
    int32_t n_head_kv = 0;              // KV heads that hold tokens
    std::optional<int32_t> kv_layer{};  // the earlier layer whose K and V it reads, if it has none of its own
};

/// Memory on one device. On each of several devices, the budget has room for whatever its layers may get of it.
struct DeviceMemoryReport {
    std::string device;  // empty: the CPU
    uint64_t kv_bytes_budget = 0;
    uint64_t kv_bytes_peak = 0;
    uint64_t kv_bytes_allocated = 0;
    uint64_t hidden_bytes_peak = 0;
    uint64_t compute_bytes_peak = 0;
};

/// Memory use in bytes. Peaks count allocated memory; the budget is allocated at once. The staging layer is the one
/// layer whose K/V a prefill holds in full. If layers share K and V, it is one layer of each kind of attention.
struct MemoryReport {
    int64_t budget_tokens_per_layer = 0;  // mean over the layers that attend to the whole text
    uint64_t kv_bytes_budget = 0;
    uint64_t kv_bytes_peak = 0;        // the budget plus the largest staging layer
    uint64_t kv_bytes_now = 0;         // slots that hold a token
    uint64_t kv_bytes_allocated = 0;   // allocated now: the budget, plus the staging layer during a prefill
    uint64_t kv_bytes_full_cache = 0;  // a full cache of the same text; layers with a sliding window hold only that
    uint64_t layer_bytes = 0;          // the largest staging layer so far
    uint64_t hidden_bytes_peak = 0;
    uint64_t compute_bytes_peak = 0;
    std::vector<DeviceMemoryReport> devices;  // the same by device; empty if the CPU computes all layers
};

/// Checks everything in the options that does not depend on the model: names, ranges, and options that exclude each
/// other.
CAKE_API Result<void> validate(const SequenceOptions& options);

/// Names of the members of SequenceOptions that have an effect under the policy of `options`: `window`,
/// `evict_interval`, and the options of its scorer and allocator. Empty if the policy is not valid or evicts nothing.
CAKE_API std::vector<std::string> options_read(const SequenceOptions& options);

/// True if the policy of `options` scores tokens by more than the end of the text, so that branch_to_all() is not
/// possible.
CAKE_API bool reads_whole_text(const SequenceOptions& options);

class Engine;
struct SequenceParts;

/// One text and its compressed cache. Not thread-safe: only one thread at a time may use it.
class CAKE_API Sequence {
  public:
    explicit Sequence(std::unique_ptr<SequenceParts> state);
    Sequence(Sequence&&) noexcept;
    Sequence& operator=(Sequence&&) noexcept;
    ~Sequence();

    /// Prefills a text layer by layer and evicts after each layer. With `segment`, it does so for one segment at a
    /// time, which bounds the memory of the prefill (K/V of one layer and the hidden states of a segment). A text that
    /// is refused leaves the sequence unchanged; after an error during the prefill, the sequence can only be destroyed.
    Result<void> append(std::span<const Token> tokens, const AppendOptions& options = {});

    /// Appends one token, as generate() does.
    Result<void> decode(Token token);

    /// Generates tokens one by one. Ends at the limit, at the model's end of text, at a stop string, when cancelled, or
    /// on an error. The sequence must outlive the stream.
    Stream<Token> generate(GenerateOptions options);
    FinishReason finish_reason() const;
    const Error& error() const;

    /// Saves the whole state to a file, so that load() continues as if there had been no interruption. If the file
    /// exists, it is replaced only after the new one is complete.
    Result<void> save(const std::string& path, const SaveOptions& options = {}) const;
    /// Loads a saved sequence. Fails if the file is damaged, is not a session, or was made with another model.
    /// `n_more`: tokens per layer by which its budget, or the capacity of a full cache, becomes larger, so that a
    /// further text does not displace what was saved.
    static Result<Sequence> load(const Engine& engine, const std::string& path, int64_t n_more = 0);
    /// Text of the application that is saved with the sequence, at most 8 MiB.
    const std::string& note() const;
    void set_note(std::string note);

    /// Options that the sequence was created with. After load(), the budget is in tokens per layer.
    const SequenceOptions& options() const;

    /// Logits after the last token, or after every appended token: [n_vocab, n].
    std::span<const float> logits() const;
    int64_t n_tokens() const;
    std::vector<LayerReport> layers() const;
    /// Positions in the text of the tokens that a layer holds for one KV head, ascending.
    std::vector<int32_t> positions(int32_t layer, int32_t head) const;
    /// Attention from the last `n_queries` tokens, at most the window, to each token of the text: mean over these
    /// queries, maximum over the heads of the upper half of the layers that attend to the whole text. [n_tokens], 0 for
    /// a token that none of these layers holds. Fails if the window's queries are not kept
    /// (SequenceOptions::keep_queries).
    Result<std::vector<float>> attention_by_position(int64_t n_queries) const;
    /// The cascade of the last segment, for layers that attend to the whole text: after each layer m, the budgets of
    /// layers 0 to m, including the window. Empty if the whole segment fitted.
    std::vector<std::vector<int32_t>> stages() const;
    /// May also be called from the progress callback.
    MemoryReport memory() const;

  private:
    friend Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens,
                                      const AppendOptions& options);
    friend Result<Sequence> branch_base(const Engine& engine, std::span<const Sequence> sequences, int64_t n_tokens);
    friend Result<void> branch_to_all(const Sequence& base, std::span<Sequence> sequences,
                                      std::span<const Token> tokens, const ProgressFunction& progress);
    friend Result<Sequence> fork(const Sequence& sequence);
    friend Result<void> make_up(Sequence& sequence, int64_t n_tokens);
    friend Result<void> decode_each(std::span<Sequence* const> sequences, std::span<const Token> tokens);
    std::unique_ptr<SequenceParts> state_;
};

/// True if the file begins like one that Sequence::save() has written.
CAKE_API bool is_session_file(const std::string& path);

/// Prefills one text into several empty sequences, to compare what they keep. Each one ends as if it had prefilled the
/// text alone, but the layers are computed only once (with `segment`, only those of the first segment). All sequences
/// need the same engine, window and cache types. The staging layer and the hidden states are counted in the memory of
/// the first.
CAKE_API Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens,
                                    const AppendOptions& options = {});

/// Creates an empty sequence that can hold a text of `n_tokens` tokens in full, as the base of branch_to_all() for
/// `sequences`.
CAKE_API Result<Sequence> branch_base(const Engine& engine, std::span<const Sequence> sequences, int64_t n_tokens);

/// Prefills `tokens` into several empty sequences as if each had already prefilled the text of `base`, which must hold
/// that text in full. With one sequence per question, the text is computed once for all questions. All sequences need
/// the same engine, window and cache types, and `tokens` must be at least as long as the window. Sequences whose scorer
/// reads the attention of all queries (h2o) need a base whose scorer does so, too.
CAKE_API Result<void> branch_to_all(const Sequence& base, std::span<Sequence> sequences, std::span<const Token> tokens,
                                    const ProgressFunction& progress = {});

/// Creates a sequence with the same options and text, and copies what `sequence` holds of it. The two then continue
/// independently: a text that was read and compressed once can be asked many questions.
CAKE_API Result<Sequence> fork(const Sequence& sequence);

/// Decodes `tokens[i]` in `sequences[i]` for all i with one pass over the weights. The logits are the same as those of
/// Sequence::decode(), at a fraction of the cost. The sequences must share an engine and hold a text already. After an
/// error during decoding they can only be destroyed.
CAKE_API Result<void> decode_each(std::span<Sequence* const> sequences, std::span<const Token> tokens);

}  // namespace cake
