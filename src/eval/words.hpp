#pragma once

#include <span>
#include <string_view>

namespace cake::eval {

/// Words that the tasks make keys of. The bundled model never saw one of them in a fact or a question of its training:
/// models/train/data.py leaves out what stands here.
std::span<const std::string_view> adjectives();
std::span<const std::string_view> nouns();

}  // namespace cake::eval
