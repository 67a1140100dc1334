#pragma once

#include <vector>

#include "cake/policy.hpp"

namespace cake {

/// Published scorers, one function each (docs/policies.md lists the sources).
std::vector<float> cake_score(const ScorerInput& input);
std::vector<float> snapkv_score(const ScorerInput& input);
std::vector<float> h2o_score(const ScorerInput& input);
std::vector<float> tova_score(const ScorerInput& input);
std::vector<float> knorm_score(const ScorerInput& input);
std::vector<float> keydiff_score(const ScorerInput& input);
std::vector<float> streaming_score(const ScorerInput& input);
std::vector<float> random_score(const ScorerInput& input);

}  // namespace cake
