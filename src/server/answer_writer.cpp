#include "server/answer_writer.hpp"

#include <format>

namespace cake::server {

std::string event(std::string_view data, std::string_view name) {
    if (name.empty()) return std::format("data: {}\n\n", data);
    return std::format("event: {}\ndata: {}\n\n", name, data);
}

}  // namespace cake::server
