#pragma once

#include <list>
#include <mutex>
#include <string>
#include <utility>

#include "cake/constraint.hpp"
#include "text/vocabulary.hpp"

namespace cake::server {

/// The compiled grammars of the tools that were used last. Agents send the same tools with every request. May be used
/// by several threads at once.
class ToolConstraints {
  public:
    /// `grammar`: from tool_grammar().
    Result<Constraint> get(const Vocabulary& vocabulary, const std::string& grammar);

  private:
    static constexpr size_t kMax = 32;

    std::mutex mutex_;
    std::list<std::pair<std::string, Constraint>> last_used_;  // the latest first
};

}  // namespace cake::server
