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

/// A policy, scorer or allocator that can be selected by name, with a one-line summary for help texts.
struct Named {
    std::string name;
    std::string summary;
};

CAKE_API std::vector<Named> policy_names();
CAKE_API std::vector<Named> scorer_names();
CAKE_API std::vector<Named> allocator_names();

/// Data about the keys of one KV head: those outside the window, oldest first. Spans that the scorer does not request
/// (Scorer::reads) are empty.
struct HeadKeys {
    std::span<const int32_t> positions;  // [n_keys] positions in the text
    std::span<const float> mean;         // [n_keys, n_group] mean attention from the window's queries, by query head
    std::span<const float> variance;     // [n_keys, n_group] variance of that attention over the queries, unbiased
    std::span<const float> last;         // [n_keys, n_group] attention from the last query
    std::span<const float> sum;   // [n_keys] cumulative attention of all queries that saw the key, mean of the group
    std::span<const float> keys;  // [head_dim_k, n_keys]; only for the head to be scored
};

/// Input of a scorer, for one KV head of one layer.
struct ScorerInput {
    int32_t layer = 0;
    int32_t head = 0;                 // KV head to score
    int32_t n_group = 1;              // query heads that share a KV head
    std::span<const HeadKeys> heads;  // [n_head_kv]
    int32_t window = 0;               // number of tokens in the window, which always stay
    float gamma = 200;
    int32_t pool_kernel = 0;  // size of the pooling over neighbouring keys, odd; 0: as published
    uint64_t seed = 0;

    const HeadKeys& scored() const { return heads[static_cast<size_t>(head)]; }
};

/// Inputs that a scorer needs in addition to the positions.
struct ScorerReads {
    bool window = false;       // mean, variance and last: attention from the window's queries
    bool all_queries = false;  // sum: needs a second pass of attention over the whole text
    bool keys = false;
};

/// Decides which tokens of a layer stay. `score` returns one score for each key of KV head `input.head`; the keys with
/// the highest scores stay. Scores are compared within a KV head, or across the KV heads of a layer under
/// `adaptive-heads`.
struct Scorer {
    std::string name{};
    std::string summary{};
    ScorerReads reads{};
    std::function<std::vector<float>(const ScorerInput& input)> score{};
    std::vector<std::string> options{};  // members of SequenceOptions that affect the scores, such as "gamma"
};

/// Registers a scorer, which can then be selected by name in `SequenceOptions::scorer` and in "SCORER:ALLOCATOR". It is
/// called for each layer and KV head in turn, on the thread that uses the sequence, or on a batcher's own. Fails if the
/// name is taken, empty, or contains a colon or white space, or if `score` is not set.
CAKE_API Result<void> add_scorer(Scorer scorer);

}  // namespace cake
