#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "server/unknown_fields.hpp"

namespace cake::server {

/// What is known of a request besides its path and status.
struct RequestNotes {
    std::chrono::steady_clock::time_point begin{};
    int64_t n_prompt = -1;  // tokens; -1: the request read none
    int64_t n_cached = 0;
    int64_t n_drawn = 0;
    bool is_stream = false;  // the line is written when the stream ends
};

/// Writes a line for each request that has been answered.
class RequestLog {
  public:
    /// `log`: takes the lines; null: none are written. `as_json`: each line is a JSON object.
    RequestLog(LogFunction log, bool as_json) : log_(std::move(log)), as_json_(as_json) {}

    /// The notes on the request that the calling thread is answering.
    static RequestNotes& notes();
    /// Writes the line for this request. `refused`: the message of an error, empty if there was none.
    void write(const std::string& method, const std::string& path, int status, const std::string& refused) const;
    /// Writes a line with a body. `what`: what it is.
    void write_body(const std::string& what, const std::string& body) const;

  private:
    LogFunction log_;
    bool as_json_;
};

}  // namespace cake::server
