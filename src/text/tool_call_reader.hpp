#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/reply_format.hpp"
#include "text/tool.hpp"

namespace cake {

/// Reads the calls in a section that a model wrote, without the marks `open` and `close`. Returns nothing if the text
/// is anything but whole calls of these tools.
std::optional<std::vector<ToolCall>> read_tool_calls(const ReplyFormat& format, std::string_view section,
                                                     std::span<const Tool> tools);

}  // namespace cake
