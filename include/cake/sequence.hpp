#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cake/budget.hpp"
#include "cake/error.hpp"
#include "cake/export.hpp"
#include "cake/sampling.hpp"
#include "cake/stream.hpp"

namespace cake {

using Token = int32_t;

/// How a sequence decides what it keeps. `scorer` and `allocator`, where set, replace those of `policy`.
struct SequenceOptions {
    std::string policy = "cake";     // or "SCORER:ALLOCATOR"
    std::optional<Budget> budget{};  // not set: 1,024 tokens a layer; `full`, which keeps everything, takes none
    std::string scorer{};
    std::string allocator{};
    int32_t window = 32;  // 1 to 1,024: the last W tokens, whose queries judge the others, always stay
    float gamma = 200;    // weight of the variance in the `cake` scorer
    int32_t pool_kernel =
        0;            // neighbouring tokens that share scores, odd; 0: as published, 5 for cake and 7 for snapkv
    double tau1 = 1;  // exponents 1/tau1 of dispersion and 1/tau2 of shift in the preference
    double tau2 = 1;
    int32_t evict_interval = 0;  // tokens decoded between evictions; 0: a sixteenth of the budget, at most 32
    std::string cache_type_k = "f16";
    std::string cache_type_v = "f16";
    int64_t max_tokens = 0;  // of text and answer together; 0: no limit, but `full` needs one
    uint64_t seed = 0;       // of the `random` scorer
    bool analyse = false;  // report every layer's dispersion, shift and preference, whether or not anything reads them
    bool keep_queries = false;  // keep the window's queries for attention_by_position(), even if the policy reads none

    bool operator==(const SequenceOptions&) const = default;
};

/// Told while a text is read; false stops. Counts tokens' worth of work, since layers are read one after another.
using ProgressFunction = std::function<bool(int64_t done_tokens, int64_t total_tokens)>;

struct AppendOptions {
    ProgressFunction progress{};
    bool all_logits = false;  // for every appended token instead of the last alone; in one segment
    int64_t segment = 0;      // tokens read at a time, each segment over what the one before left; 0: all at once.
                              // A KvRatio is of the whole text all the same
};

enum class FinishReason { length, end_of_generation, cancelled, failed };

struct GenerateOptions {
    int64_t max_tokens = -1;  // -1: until the model ends
    bool ignore_eos = false;  // no token that ends the text is drawn
    SamplingOptions sampling;
    std::vector<std::string> stop{};    // ends with the token that completes one of these texts
    std::function<bool()> cancelled{};  // asked before each token
};

/// Where the cake goes, for one layer. Dispersion, shift and preference are missing where nothing had to be evicted.
struct LayerReport {
    std::optional<double> dispersion;
    std::optional<double> shift;
    std::optional<double> preference;
    int64_t budget = 0;  // tokens that it may hold after an eviction, window included
    int64_t window = 0;  // tokens that it attends to where that is a sliding window, which it keeps; else 0
    int64_t kept = 0;    // tokens that it holds
};

/// What was held, in bytes. Peaks count what was allocated: the budget is allocated at once.
struct MemoryReport {
    int64_t budget_tokens_per_layer = 0;  // of the layers that attend to the whole text
    uint64_t kv_bytes_budget = 0;
    uint64_t kv_bytes_peak = 0;        // the budget and the one full-length layer of a prefill
    uint64_t kv_bytes_now = 0;         // of the slots that hold a token
    uint64_t kv_bytes_allocated = 0;   // now: the budget and, while a text is read, the full-length layer
    uint64_t kv_bytes_full_cache = 0;  // what a full cache would hold now, no more than the window where one slides
    uint64_t layer_bytes = 0;          // the one full-length layer of the longest prefill
    uint64_t hidden_bytes_peak = 0;
    uint64_t compute_bytes_peak = 0;
};

/// Everything about the options that can be wrong whatever the model is: names, numbers, what excludes each other.
CAKE_API Result<void> validate(const SequenceOptions& options);

/// Which of `window`, `evict_interval` and the options that a scorer or an allocator may read have an effect under the
/// policy of `options`, by their names as members. Nothing where validate() fails, and of `full`.
CAKE_API std::vector<std::string> options_read(const SequenceOptions& options);

class Engine;
struct SequenceParts;

/// One text and its compressed cache. One thread at a time may use it.
class CAKE_API Sequence {
  public:
    explicit Sequence(std::unique_ptr<SequenceParts> state);
    Sequence(Sequence&&) noexcept;
    Sequence& operator=(Sequence&&) noexcept;
    ~Sequence();

    /// Reads a text: layer by layer, evicting after each, in segments where `segment` says so, which bounds what is
    /// held while reading (one layer's K/V and the hidden states of a segment). After an error the sequence can only be
    /// dropped.
    Result<void> append(std::span<const Token> tokens, const AppendOptions& options = {});

    /// Adds one token, as generate() does.
    Result<void> decode(Token token);

    /// Fills an empty sequence as if a text of so many tokens had been read, with keys and values that are made up: for
    /// measuring speed at a depth that takes long to reach. What is generated from it means nothing.
    Result<void> make_up(int64_t n_tokens);

    /// Draws tokens one by one; ends at the limit, at the model's end of text, at a stop string, when cancelled, or on
    /// an error. The sequence outlives the stream.
    Stream<Token> generate(GenerateOptions options);
    FinishReason finish_reason() const;
    const Error& error() const;

    /// Writes all that is held to a file, from which load() goes on as if nothing had come between. An earlier file of
    /// that name is replaced when the new one is whole.
    Result<void> save(const std::string& path) const;
    /// Opens a saved sequence for the model that it was made with. A file that is damaged, of another model or no
    /// session is refused.
    static Result<Sequence> load(const Engine& engine, const std::string& path);
    /// A text of the program's own that is saved with the sequence, 8 MiB at most.
    const std::string& note() const;
    void set_note(std::string note);

    /// What it was made with; the budget of a loaded one is in tokens a layer.
    const SequenceOptions& options() const;

    /// Logits after the last token, or after every appended one: [n_vocab, n].
    std::span<const float> logits() const;
    int64_t n_tokens() const;
    std::vector<LayerReport> layers() const;
    /// Positions in the text of the tokens that a layer holds for one KV head, rising.
    std::vector<int32_t> positions(int32_t layer, int32_t head) const;
    /// Attention from the last `n_queries` tokens, at most the window, to each token of the text: the mean over these
    /// queries in the head where it is largest, of the upper half of the layers that attend to the whole text.
    /// [n_tokens], 0 for a token that none of them holds. Fails if the window's queries are not kept
    /// (SequenceOptions::keep_queries).
    Result<std::vector<float>> attention_by_position(int64_t n_queries) const;
    /// The cascade of the last segment: what layers 0 to m may keep, window included, after layer m was read; of those
    /// that attend to the whole text. Empty where all of it fitted.
    std::vector<std::vector<int32_t>> stages() const;
    /// May also be asked by the function that is told of progress.
    MemoryReport memory() const;

  private:
    friend Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens,
                                      const AppendOptions& options);
    friend Result<Sequence> branch_base(const Engine& engine, std::span<const Sequence> sequences, int64_t n_tokens);
    friend Result<void> branch_to_all(const Sequence& base, std::span<Sequence> sequences,
                                      std::span<const Token> tokens, const ProgressFunction& progress);
    friend Result<void> decode_each(std::span<Sequence* const> sequences, std::span<const Token> tokens);
    std::unique_ptr<SequenceParts> state_;
};

/// Reads one text into several empty sequences, for comparing what they keep: each ends as if it had read the text
/// alone, and the layers are computed once. All need the same engine, window and cache types. The layer in flight and
/// the hidden states are counted in the memory of the first.
CAKE_API Result<void> append_to_all(std::span<Sequence> sequences, std::span<const Token> tokens,
                                    const AppendOptions& options = {});

/// An empty sequence that can hold a text of `n_tokens` in full, made to be the base of branch_to_all() for these.
CAKE_API Result<Sequence> branch_base(const Engine& engine, std::span<const Sequence> sequences, int64_t n_tokens);

/// Reads `tokens` into several empty sequences as if each had read before them the text of `base`, which holds all of
/// it: a text that is asked many questions is computed once. All need the same engine, window and cache types; `tokens`
/// are at least as many as the window; sequences whose scorer reads the attention of all queries (h2o) need a base
/// whose scorer does.
CAKE_API Result<void> branch_to_all(const Sequence& base, std::span<Sequence> sequences, std::span<const Token> tokens,
                                    const ProgressFunction& progress = {});

/// Adds `tokens[i]` to `sequences[i]` for all i with one pass over the weights: the logits are those that
/// Sequence::decode() gives, at a fraction of its cost. All sequences hold a text already and share an engine. After an
/// error they can only be dropped.
CAKE_API Result<void> decode_each(std::span<Sequence* const> sequences, std::span<const Token> tokens);

}  // namespace cake
