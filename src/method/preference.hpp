#pragma once

namespace cake {

/// The layer preference P = H^(1/tau1) * V^(1/tau2) of a layer's dispersion H and shift V (paper, eq. 5).
/// Always finite and at least 0: a quantity that is not a positive number counts as 0, an overflow as the largest
/// value.
double preference(double dispersion, double shift, double tau1, double tau2);

}  // namespace cake
