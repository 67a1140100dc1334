#pragma once

namespace cake {

/// The layer preference P = H^(1/tau1) * V^(1/tau2) of a layer's dispersion H and shift V (paper, eq. 5). The result is
/// finite and at least 0: it is 0 if H or V is not a positive number, and capped at a large value.
double preference(double dispersion, double shift, double tau1, double tau2);

}  // namespace cake
