#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <mutex>
#include <string>

namespace cake::server {

/// The open connections. Each waits for a whole request, is then busy with the answer, and waits again. If too many
/// wait, the table closes the one that has waited longest, of the address with the most waiting connections.
class ConnectionTable {
  public:
    ConnectionTable(size_t most_waiting, size_t most_answers)
        : most_waiting_(most_waiting), most_answers_(most_answers) {}

    /// Adds a connection, which waits. Returns false after end_all().
    bool add(socket_t socket, std::string address);
    void remove(socket_t socket);
    void wait(socket_t socket);
    /// Returns false if there are too many answers at the same time.
    bool begin_answer(socket_t socket);
    /// Shuts down the connections that wait, and those that wait or are added later.
    void end_waiting();
    /// Shuts down all connections, and those that are added later.
    void end_all();
    bool has_answers();

  private:
    struct Open {
        std::string address;
        std::chrono::steady_clock::time_point since;
        bool is_answer = false;
        bool is_shut = false;
    };

    void make_room();

    const size_t most_waiting_;
    const size_t most_answers_;
    std::mutex mutex_;
    std::map<socket_t, Open> open_;
    bool ended_ = false;
};

}  // namespace cake::server
