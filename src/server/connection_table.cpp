#include "server/connection_table.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace cake::server {

bool ConnectionTable::add(socket_t socket, std::string address) {
    const std::scoped_lock lock(mutex_);
    if (ended_) return false;
    open_[socket] = {.address = std::move(address), .since = std::chrono::steady_clock::now()};
    make_room();
    return true;
}

void ConnectionTable::remove(socket_t socket) {
    const std::scoped_lock lock(mutex_);
    open_.erase(socket);
}

void ConnectionTable::wait(socket_t socket) {
    const std::scoped_lock lock(mutex_);
    auto& connection = open_[socket];
    connection.since = std::chrono::steady_clock::now();
    connection.is_answer = false;
    if (ended_) ::shutdown(socket, SHUT_RDWR);
    make_room();
}

bool ConnectionTable::begin_answer(socket_t socket) {
    const std::scoped_lock lock(mutex_);
    const auto n = std::ranges::count_if(open_, [](const auto& entry) { return entry.second.is_answer; });
    open_[socket].is_answer = true;
    return static_cast<size_t>(n) < most_answers_;
}

void ConnectionTable::end_waiting() {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
    for (const auto& [socket, connection] : open_)
        if (!connection.is_answer) ::shutdown(socket, SHUT_RDWR);
}

bool ConnectionTable::has_answers() {
    const std::scoped_lock lock(mutex_);
    return std::ranges::any_of(open_, [](const auto& entry) { return entry.second.is_answer; });
}

void ConnectionTable::end_all() {
    const std::scoped_lock lock(mutex_);
    ended_ = true;
    for (const auto& [socket, connection] : open_) ::shutdown(socket, SHUT_RDWR);
}

/// Shuts down a waiting connection if there are too many. Its thread then ends and removes it.
void ConnectionTable::make_room() {
    const auto waits = [](const Open& connection) { return !connection.is_answer && !connection.is_shut; };
    std::map<std::string, size_t> n_of_address;
    size_t n = 0;
    for (const auto& [socket, connection] : open_) {
        if (!waits(connection)) continue;
        n++;
        n_of_address[connection.address]++;
    }
    if (n <= most_waiting_) return;
    auto victim = open_.end();
    for (auto it = open_.begin(); it != open_.end(); ++it) {
        if (!waits(it->second)) continue;
        const auto rank = [&](const Open& connection) {
            return std::tuple(n_of_address[connection.address], -connection.since.time_since_epoch());
        };
        if (victim == open_.end() || rank(it->second) > rank(victim->second)) victim = it;
    }
    victim->second.is_shut = true;
    ::shutdown(victim->first, SHUT_RDWR);
}

}  // namespace cake::server
