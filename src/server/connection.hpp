#pragma once

#include <httplib.h>

#include <chrono>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "cake/error.hpp"

namespace cake::server {

/// How long a client may take.
struct ConnectionLimits {
    std::chrono::milliseconds next_byte{10'000};      // until it sends or takes something
    std::chrono::milliseconds whole_request{60'000};  // until its request is there
    std::chrono::milliseconds next_request{5'000};    // on a connection that stays open
    std::chrono::milliseconds whole_answer{60'000};   // that an answer waits for it, in all: so long and
    size_t bytes_per_second = size_t{16} << 10U;      // a second for so many bytes
};

/// A client's connection. Beside the time for each byte there is one for a request and an answer as a whole, or a
/// client that sends or takes a byte now and then would hold a thread for ever.
class Connection final : public httplib::Stream {
  public:
    Connection(socket_t socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {}

    /// Waits for a request to begin; false where none does. Its time starts here.
    bool wait_for_request();

    bool has_peer_gone() const;
    bool is_readable() const override { return begin_ < end_; }
    bool wait_readable() const override;
    bool wait_writable() const override;
    bool is_peer_alive() const override;
    ssize_t read(char* to, size_t size) override;
    ssize_t write(const char* from, size_t size) override;
    void get_remote_ip_and_port(std::string& ip, int& port) const override;
    void get_local_ip_and_port(std::string& ip, int& port) const override;
    socket_t socket() const override { return socket_; }
    time_t duration() const override;

  private:
    using Clock = std::chrono::steady_clock;

    bool wait_for(short events, std::chrono::milliseconds most) const;

    socket_t socket_;
    ConnectionLimits limits_;
    Clock::time_point request_begin_ = Clock::now();
    mutable Clock::duration waited_{};  // for it to take what is written
    size_t n_written_ = 0;              // bytes
    std::string buffer_;                // bytes received, of which [begin_, end_) have not been read
    size_t begin_ = 0;
    size_t end_ = 0;
};

/// httplib's server on such connections.
class HttpServer final : public httplib::Server {
  public:
    explicit HttpServer(const ConnectionLimits& limits);

    /// Listens at an address; port 0 means any. Returns the port.
    Result<int> bind(const std::string& host, int port);
    /// Ends the connections that are open, and takes no more.
    void end();

    /// Of the request that this thread handles: its line and headers have been understood.
    static void understood();
    /// Its answer said that the connection ends with it.
    static void close_after();
    /// Whether its client has gone, even where something that it sent has not been read.
    static bool client_has_gone();

  private:
    bool process_and_close_socket(socket_t socket) override;
    void process(socket_t socket);

    ConnectionLimits limits_;
    std::mutex mutex_;
    std::set<socket_t> open_;
    bool ended_ = false;
};

}  // namespace cake::server
