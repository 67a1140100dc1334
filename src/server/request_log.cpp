#include "server/request_log.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

#include "server/answer_writer.hpp"
#include "text/answer_text.hpp"
#include "text/json_text.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

/// A text from outside as part of a line.
std::string in_line(const std::string& text, size_t max_bytes = 300) {
    auto line = to_utf8(beginning_of(text, max_bytes));
    std::ranges::replace_if(line, [](unsigned char c) { return c < ' ' || c == 0x7F; }, '?');
    return line;
}

}  // namespace

RequestNotes& RequestLog::notes() {
    thread_local RequestNotes notes;
    return notes;
}

void RequestLog::write(const std::string& method, const std::string& path, int status,
                       const std::string& refused) const {
    if (!log_) return;
    const auto& notes = RequestLog::notes();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - notes.begin).count();
    if (as_json_) {
        Json line{
            {"time",
             fmt::format("{:%FT%TZ}", std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now()))},
            {"method", in_line(method)},
            {"path", in_line(path)},
            {"status", status},
            {"seconds", seconds}};
        if (notes.n_prompt >= 0)
            line.update(Json{{"prompt_tokens", notes.n_prompt},
                             {"cached_tokens", notes.n_cached},
                             {"completion_tokens", notes.n_drawn}});
        if (!refused.empty()) line["error"] = in_line(refused);
        return log_(json_text(line));
    }
    auto line = fmt::format("{} {} {} {:.3f} s", in_line(method), in_line(path), status, seconds);
    if (notes.n_prompt >= 0)
        line +=
            fmt::format(", {} tokens read ({} in memory), {} written", notes.n_prompt, notes.n_cached, notes.n_drawn);
    if (!refused.empty()) line += ": " + in_line(refused);
    log_(line);
}

void RequestLog::write_body(const std::string& what, const std::string& body) const {
    if (!log_) return;
    constexpr size_t kMaxBytes = size_t{16} << 10U;
    const auto text = in_line(body, kMaxBytes);
    log_(as_json_ ? json_text(Json{{"body_of", in_line(what)}, {"body", text}})
                  : fmt::format("  {}: {}", in_line(what), text));
}

}  // namespace cake::server
