#pragma once

#include <span>
#include <string_view>

namespace cake::eval {

/// Words from which the tasks build keys. None of them occurs in a fact or question that the bundled model was trained
/// on: models/train/text.py leaves them out of its word list.
std::span<const std::string_view> adjectives();
std::span<const std::string_view> nouns();

}  // namespace cake::eval
