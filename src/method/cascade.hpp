#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// The cascade of a prefill (paper, algorithm 1): layers join in order, and after each one, the total is divided among
/// the layers so far. Budgets never rise from stage to stage, so tokens dropped early would not be kept by the last
/// stage either.
class Cascade {
  public:
    /// Adds the next layer, with its weight and its number of tokens outside the window. Returns the budgets of all
    /// layers so far, which sum to at most `total` tokens (B_total in the paper).
    std::span<const int32_t> join(double weight, int32_t cap, int64_t total);

  private:
    std::vector<double> weights_;
    std::vector<int32_t> caps_;
    std::vector<int32_t> budgets_;
};

}  // namespace cake
