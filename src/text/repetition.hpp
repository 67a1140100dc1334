#pragma once

#include <string_view>

namespace cake {

/// True if the last 1,000 bytes of a text are one passage of at most 200 bytes, over and over. A small model that draws
/// the most likely token often ends in such a loop, and does not leave it.
bool repeats_itself(std::string_view text);

}  // namespace cake
