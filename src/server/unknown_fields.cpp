#include "server/unknown_fields.hpp"

#include <fmt/format.h>

#include "text/utf8.hpp"

namespace cake::server {

void UnknownFields::note(std::span<const std::string> names) {
    constexpr size_t kMaxNoted = 200;  // names come from outside
    if (!log_) return;
    const std::lock_guard lock(mutex_);
    for (const auto& name : names) {
        const auto shown = beginning_of(name);
        if (noted_.size() < kMaxNoted && noted_.insert(shown).second)
            log_(fmt::format("warning: requests have a field \"{}\", which is not known and has no effect", shown));
    }
}

}  // namespace cake::server
