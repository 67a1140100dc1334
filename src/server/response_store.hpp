#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "server/body.hpp"

namespace cake::server {

/// The conversations of the last responses, for `previous_response_id`. May be used by several threads at once.
class ResponseStore {
  public:
    /// Keeps the messages of a conversation, an array as in chat completions, up to and with the answer.
    /// `key`: API key of the client, without which the conversation is not found.
    void put(const std::string& id, const std::string& key, const Json& messages);
    std::optional<Json> get(const std::string& id, const std::string& key);

  private:
    struct Kept {
        std::string id;
        std::string key;
        std::string messages;  // JSON
    };
    static constexpr size_t kMaxBytes = size_t{64} << 20U;

    std::mutex mutex_;
    std::list<Kept> kept_;  // the latest first
    size_t n_bytes_ = 0;
};

}  // namespace cake::server
