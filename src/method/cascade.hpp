#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace cake {

/// The cascade of a prefill (paper, algorithm 1): layers join in order, and after each one the total is sliced over
/// those that have. Budgets never rise from stage to stage, so dropping tokens early loses nothing that the last stage
/// would keep.
class Cascade {
  public:
    /// The next layer joins, with its weight and the tokens that it has to offer beside its window. The budgets of all
    /// layers so far, `total` tokens (B_total) at most together.
    std::span<const int32_t> join(double weight, int32_t cap, int64_t total);

  private:
    std::vector<double> weights_;
    std::vector<int32_t> caps_;
    std::vector<int32_t> budgets_;
};

}  // namespace cake
