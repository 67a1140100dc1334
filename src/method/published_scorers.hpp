#pragma once

#include <span>
#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// Published scorers and cake_plus_score, which is ours, one function each (docs/policies.md lists the sources).
std::vector<float> cake_score(const ScorerInput& input);
std::vector<float> cake_plus_score(const ScorerInput& input);
std::vector<float> criticalkv_score(const ScorerInput& input);
std::vector<float> defensivekv_score(const ScorerInput& input);
std::vector<float> dropkv_score(const ScorerInput& input);
std::vector<float> dropkv_max_score(const ScorerInput& input);
std::vector<float> expected_attention_score(const ScorerInput& input);
std::vector<float> h2o_score(const ScorerInput& input);
std::vector<float> keydiff_score(const ScorerInput& input);
std::vector<float> knorm_score(const ScorerInput& input);
std::vector<float> kvzip_score(const ScorerInput& input);
std::vector<float> lava_score(const ScorerInput& input);
std::vector<float> random_score(const ScorerInput& input);
std::vector<float> rkv_score(const ScorerInput& input);
std::vector<float> smoothed_attention_score(const ScorerInput& input);
std::vector<float> snapkv_score(const ScorerInput& input);
std::vector<float> streaming_score(const ScorerInput& input);
std::vector<float> tova_score(const ScorerInput& input);

/// Reductions of the window's attention (Scorer::reduce).
void defensivekv_reduce(const ScorerInput& input, const HeadAttention& attention, std::span<float> reduced);
void dropkv_reduce(const ScorerInput& input, const HeadAttention& attention, std::span<float> reduced);

}  // namespace cake
