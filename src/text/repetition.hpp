#pragma once

#include <string_view>

namespace cake {

/// True if a text ends with 500 bytes or more that are one passage of 40 to 200 bytes over and over, at least four
/// times, or with 1,000 bytes that are a shorter passage. A small model that draws the most likely token often ends in
/// such a loop, and does not leave it.
bool repeats_itself(std::string_view text);

}  // namespace cake
