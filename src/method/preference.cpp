#include "method/preference.hpp"

#include <algorithm>
#include <cmath>

namespace cake {

double preference(double dispersion, double shift, double tau1, double tau2) {
    // Small enough that the preferences of any number of layers can be summed and multiplied by any number of tokens.
    constexpr double kLargest = 1e200;
    if (!(dispersion > 0) || !(shift > 0)) return 0;
    const double p = std::pow(dispersion, 1 / tau1) * std::pow(shift, 1 / tau2);
    return std::isnan(p) ? 0 : std::min(p, kLargest);
}

}  // namespace cake
