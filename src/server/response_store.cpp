#include "server/response_store.hpp"

#include <algorithm>

#include "server/answer_writer.hpp"
#include "text/json_text.hpp"

namespace cake::server {

void ResponseStore::put(const std::string& id, const std::string& key, const Json& messages) {
    auto text = json_text(messages);
    const std::lock_guard lock(mutex_);
    n_bytes_ += text.size();
    kept_.push_front({.id = id, .key = key, .messages = std::move(text)});
    while (n_bytes_ > kMaxBytes && !kept_.empty()) {
        n_bytes_ -= kept_.back().messages.size();
        kept_.pop_back();
    }
}

std::optional<Json> ResponseStore::get(const std::string& id, const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find(kept_, id, &Kept::id);
    if (found == kept_.end() || found->key != key) return std::nullopt;
    return std::optional<Json>(std::in_place, Json::parse(found->messages, nullptr, false));
}

}  // namespace cake::server
