#include "method/preference.hpp"

#include <algorithm>
#include <cmath>

namespace cake {

double preference(double dispersion, double shift, double tau1, double tau2) {
    // Small enough that sums over any number of layers, and products with any number of tokens, do not overflow.
    constexpr double kLargest = 1e200;
    if (!(dispersion > 0) || !(shift > 0)) return 0;
    const double p = std::pow(dispersion, 1 / tau1) * std::pow(shift, 1 / tau2);
    return std::isnan(p) ? 0 : std::min(p, kLargest);
}

}  // namespace cake
