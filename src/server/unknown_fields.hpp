#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <span>
#include <string>

namespace cake::server {

/// Takes one line of the server's log.
using LogFunction = std::function<void(const std::string& line)>;

/// Warns once about each field of requests that is ignored because the server does not know it.
class UnknownFields {
  public:
    explicit UnknownFields(LogFunction log) : log_(std::move(log)) {}

    void note(std::span<const std::string> names);

  private:
    LogFunction log_;
    std::mutex mutex_;
    std::set<std::string> noted_;
};

}  // namespace cake::server
