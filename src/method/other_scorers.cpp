#include <algorithm>
#include <cmath>

#include "method/pinned.hpp"
#include "method/published_scorers.hpp"

namespace cake {

namespace {

/// Calls `visit` with the index and the values of the first `n` keys of the scored head.
template <typename Visit>
void for_each_key(const ScorerInput& input, size_t n, Visit visit) {
    const auto keys = input.scored().keys;
    const size_t dim = keys.size() / std::max<size_t>(input.n_slots(), 1);
    for (size_t j = 0; j < n; j++) visit(j, keys.subspan(j * dim, dim));
}

double norm(std::span<const float> key) {
    double sum = 0;
    for (const float x : key) sum += static_cast<double>(x) * x;
    return std::sqrt(sum);
}

}  // namespace

/// Keys with a small L2 norm score high, because they attract the most attention (Devoto et al.).
std::vector<float> knorm_score(const ScorerInput& input) {
    std::vector<float> scores(input.scored().positions.size());
    for_each_key(input, scores.size(),
                 [&](size_t j, std::span<const float> key) { scores[j] = -static_cast<float>(norm(key)); });
    return scores;
}

/// KeyDiff: keys with a small cosine to the mean of all key directions, those of the window included, score high.
std::vector<float> keydiff_score(const ScorerInput& input) {
    std::vector<double> anchor;
    for_each_key(input, input.n_slots(), [&](size_t /*j*/, std::span<const float> key) {
        anchor.resize(key.size(), 0.0);
        const double length = norm(key);
        for (size_t d = 0; length > 0 && d < key.size(); d++) anchor[d] += key[d] / length;
    });
    double anchor_length = 0;
    for (const double x : anchor) anchor_length += x * x;
    anchor_length = std::sqrt(anchor_length);

    std::vector<float> scores(input.scored().positions.size());
    for_each_key(input, scores.size(), [&](size_t j, std::span<const float> key) {
        double dot = 0;
        for (size_t d = 0; d < key.size(); d++) dot += key[d] * anchor[d];
        const double lengths = norm(key) * anchor_length;
        scores[j] = lengths > 0 ? static_cast<float>(-dot / lengths) : 0.0F;
    });
    return scores;
}

/// StreamingLLM: the first four tokens of the text, then the most recent ones.
std::vector<float> streaming_score(const ScorerInput& input) {
    std::vector<float> scores(input.scored().positions.size());
    std::ranges::transform(input.scored().positions, scores.begin(), [](int32_t position) {
        return position < kSinks ? kPinnedScore : static_cast<float>(position);
    });
    return scores;
}

/// A fixed random number for each token, layer and KV head, so that scoring again gives the same result.
std::vector<float> random_score(const ScorerInput& input) {
    std::vector<float> scores(input.scored().positions.size());
    std::ranges::transform(input.scored().positions, scores.begin(), [&](int32_t position) {
        // SplitMix64.
        uint64_t x = input.seed + 0x9E3779B97F4A7C15ULL * (static_cast<uint64_t>(position) + 1) +
                     (static_cast<uint64_t>(input.layer) << 40U) + (static_cast<uint64_t>(input.head) << 52U);
        x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9ULL;
        x = (x ^ (x >> 27U)) * 0x94D049BB133111EBULL;
        return static_cast<float>((x ^ (x >> 31U)) >> 40U);
    });
    return scores;
}

}  // namespace cake
