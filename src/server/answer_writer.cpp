#include "server/answer_writer.hpp"

#include <fmt/format.h>

namespace cake::server {

namespace {

Json speed(const char* what, int64_t n, double seconds) {
    constexpr double kMilli = 1000;
    const auto count = static_cast<double>(n);
    const std::string name = what;
    return {{name + "_n", n},
            {name + "_ms", kMilli * seconds},
            {name + "_per_token_ms", n > 0 ? kMilli * seconds / count : 0},
            {name + "_per_second", seconds > 0 ? count / seconds : 0}};
}

}  // namespace

Json timings_of(const Answer& answer) {
    Json timings{{"cache_n", answer.n_cached()}};
    timings.update(speed("prompt", answer.n_prompt() - answer.n_cached(), answer.prompt_seconds()));
    timings.update(speed("predicted", answer.n_drawn(), answer.drawing_seconds()));
    return timings;
}

std::string event(std::string_view data, std::string_view name) {
    if (name.empty()) return fmt::format("data: {}\n\n", data);
    return fmt::format("event: {}\ndata: {}\n\n", name, data);
}

}  // namespace cake::server
