#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/reply_format.hpp"
#include "text/tool.hpp"

namespace cake {

/// An argument may contain the text that ends a call, so further ends are tried, but not without limit: the time would
/// grow with the square of the text.
inline constexpr int kMaxEnds = 64;

/// Reads the calls in a section that a model wrote, without the marks `open` and `close`. Returns nothing if the text
/// is anything but whole calls of these tools.
std::optional<std::vector<ToolCall>> read_tool_calls(const ReplyFormat& format, std::string_view section,
                                                     std::span<const Tool> tools);

}  // namespace cake
