#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "cake/export.hpp"

namespace cake {

/// The policy that keeps every token. It takes no budget.
inline constexpr const char* kFullPolicy = "full";
/// The policy of SequenceOptions.
inline constexpr const char* kDefaultPolicy = "cake+";
/// The policy for a text that is read before it is known what will be asked about it.
inline constexpr const char* kAgnosticPolicy = "kvzip+";

/// A policy, scorer or allocator that can be selected by name, with a one-line summary for help texts.
struct Named {
    std::string name;
    std::string summary;
};

CAKE_API std::vector<Named> policy_names();
CAKE_API std::vector<Named> scorer_names();
CAKE_API std::vector<Named> allocator_names();

/// Data about the slots of one KV head, oldest first. The last slots belong to the window; the n_keys before them are
/// to be scored. Spans that the scorer does not request (Scorer::reads) are empty.
struct HeadKeys {
    std::span<const int32_t> positions;   // [n_keys] positions in the text
    std::span<const float> mean;          // [n_keys, n_group] mean attention from the window's queries, by query head
    std::span<const float> variance;      // [n_keys, n_group] variance of that attention over the queries, unbiased
    std::span<const float> last;          // [n_keys, n_group] attention from the last query
    std::span<const float> sum;           // [n_keys] cumulative attention of all queries that saw the key, group mean
    std::span<const float> reduced;       // [n_slots] result of Scorer::reduce
    std::span<const float> output_norms;  // [n_keys] L1 norm of the value after the output projection, group mean

    // Only for the head to be scored.
    std::span<const float> keys;              // [head_dim_k, n_slots] after RoPE
    std::span<const float> values;            // [head_dim_v, n_slots]
    std::span<const float> queries;           // [head_dim_k, n_queries, n_group] the window's queries, oldest first
    std::span<const float> replay;            // [n_keys] importance in a replay of the text (KVzip)
    std::span<const float> query_mean;        // [head_dim_k, n_group] mean query that is expected to follow
    std::span<const float> query_covariance;  // [head_dim_k, head_dim_k, n_group] and its covariance
};

/// Input of a scorer, for one KV head of one layer.
struct ScorerInput {
    int32_t layer = 0;
    int32_t head = 0;                 // KV head to score
    int32_t n_group = 1;              // query heads that share a KV head
    std::span<const HeadKeys> heads;  // [n_head_kv]
    int32_t window = 0;               // number of tokens in the window, which always stay
    int32_t budget = 0;               // tokens that a KV head keeps in the mean over all layers, with the window
    int32_t floor = 0;                // tokens that every KV head keeps in any case, with the window
    float gamma = 200;
    int32_t pool_kernel = 0;  // size of the pooling over neighbouring keys, odd; 0: as published
    uint64_t seed = 0;

    const HeadKeys& scored() const { return heads[static_cast<size_t>(head)]; }
    size_t n_slots() const { return scored().positions.size() + static_cast<size_t>(window); }
};

/// Attention of the window's queries in one query head.
struct HeadAttention {
    std::span<const float> weights;  // [n_slots, n_queries] softmax over the slots that a query sees; the others are 0
    std::span<const float> values;   // [head_dim_v, n_slots]; empty unless ScorerReads::values
    int32_t n_queries = 0;
    int64_t n_keys = 0;  // number of slots outside the window, which come first
};

/// What a scorer reads of a replay, in which the model repeats the text from its own cache (KVzip).
enum class Replay : uint8_t { none, attention, output };

/// Inputs that a scorer needs in addition to the positions.
struct ScorerReads {
    bool window = false;       // mean, variance and last: attention from the window's queries
    bool all_queries = false;  // sum: needs a second pass of attention over the whole text
    bool keys = false;
    bool values = false;
    bool output_norms = false;  // needs the output projection of every value
    bool queries = false;
    bool query_moments = false;  // query_mean and query_covariance: needs the queries of the whole text
    Replay replay = Replay::none;
    /// True if the inputs are there only when a text is read, not when an answer is generated.
    bool whole_text() const { return query_moments || replay != Replay::none; }
    int32_t n_reduced = 0;  // number of the newest queries that `reduce` sees; 0: all of the window
};

/// Decides which tokens of a layer stay. `score` returns one score for each key of KV head `input.head`; the keys with
/// the highest scores stay. Scores are compared within a KV head and, depending on the allocator, with those of the
/// other KV heads of the layer (`adaptive-heads`) or of all layers (`model-top-k`).
struct Scorer {
    std::string name{};
    std::string summary{};
    ScorerReads reads{};
    std::function<std::vector<float>(const ScorerInput& input)> score{};
    std::vector<std::string> options{};  // members of SequenceOptions that affect the scores, such as "gamma"
    /// Merges the attention of a query head into `reduced`, [n_slots], which begins as zeros. It is called for each
    /// query head of KV head `input.head`, before any call of `score` for the layer; `input` then has no `heads`.
    /// Optional.
    std::function<void(const ScorerInput& input, const HeadAttention& attention, std::span<float> reduced)> reduce{};
};

/// Registers a scorer, which can then be selected by name in `SequenceOptions::scorer` and in "SCORER:ALLOCATOR". It is
/// called for each layer and KV head in turn, on the thread that uses the sequence, or on a batcher's own. Fails if the
/// name is taken, empty, or contains a colon or white space, or if `score` is not set.
CAKE_API Result<void> add_scorer(Scorer scorer);

}  // namespace cake
