#include "server/answer_writer.hpp"

#include <format>

namespace cake::server {

std::string text_of(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string event(std::string_view data, std::string_view name) {
    if (name.empty()) return std::format("data: {}\n\n", data);
    return std::format("event: {}\ndata: {}\n\n", name, data);
}

}  // namespace cake::server
