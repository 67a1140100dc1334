#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cake/error.hpp"
#include "cake/export.hpp"

namespace cake {

/// What can be asked for by name, with a line on each for help texts.
struct Named {
    std::string name;
    std::string summary;
};

CAKE_API std::vector<Named> policy_names();
CAKE_API std::vector<Named> scorer_names();
CAKE_API std::vector<Named> allocator_names();

/// What is known of one KV head's keys: those outside the window, oldest first. A span that the scorer does not read is
/// empty.
struct HeadKeys {
    std::span<const int32_t> positions;  // [n_keys] in the text
    std::span<const float> mean;         // [n_keys, n_group] attention from the window's queries, by query head
    std::span<const float> variance;     // [n_keys, n_group] of it over these queries, unbiased
    std::span<const float> last;         // [n_keys, n_group] attention from the last query alone
    std::span<const float> sum;          // [n_keys] attention from all queries that saw the key, mean of the group
    std::span<const float> keys;         // [head_dim_k, n_keys]; of the scored head alone
};

/// All that a scorer may read of one layer.
struct ScorerInput {
    int32_t layer = 0;
    int32_t head = 0;                 // the KV head to score
    int32_t n_group = 1;              // query heads that share a KV head
    std::span<const HeadKeys> heads;  // [n_head_kv]
    int32_t window = 0;               // tokens that stay beside the keys, whatever their scores
    float gamma = 200;
    int32_t pool_kernel = 0;  // neighbouring keys that share their scores, an odd number; 0: as published
    uint64_t seed = 0;

    const HeadKeys& scored() const { return heads[static_cast<size_t>(head)]; }
};

/// What has to be computed for a scorer, beside the positions.
struct ScorerReads {
    bool window = false;       // mean, variance, last: attention of the window's queries
    bool all_queries = false;  // sum: a second pass of attention over the whole text
    bool keys = false;
};

/// Which tokens of a layer stay: a score for each key of the KV head `input.head`; the highest stay. Scores of a key
/// are compared within a layer, and across its KV heads under `adaptive-heads`.
struct Scorer {
    std::string name{};
    std::string summary{};
    ScorerReads reads{};
    std::function<std::vector<float>(const ScorerInput& input)> score{};
    std::vector<std::string> options{};  // members of SequenceOptions that change the scores, such as "gamma"
};

/// Makes a scorer of one's own known by name, for `SequenceOptions::scorer` and "SCORER:ALLOCATOR". It is called from
/// the thread that uses a sequence, for each layer and KV head in turn. Fails where the name is taken, empty, or holds
/// a colon or a space.
CAKE_API Result<void> add_scorer(Scorer scorer);

}  // namespace cake
