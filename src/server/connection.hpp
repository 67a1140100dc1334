#pragma once

#include <httplib.h>

#include <chrono>
#include <string>
#include <utility>

#include "cake/error.hpp"
#include "server/connection_table.hpp"

namespace cake::server {

/// Timeouts of a client.
struct ConnectionLimits {
    std::chrono::milliseconds next_byte{10'000};      // until the client sends or accepts more bytes
    std::chrono::milliseconds whole_request{60'000};  // until the request is complete
    std::chrono::milliseconds next_request{5'000};    // until the next request on an open connection
    std::chrono::milliseconds whole_answer{60'000};   // total time that an answer may wait for the client
    size_t bytes_per_second = size_t{16} << 10U;      // bytes written that extend `whole_answer` by one second
    size_t most_waiting = 256;                        // connections without a whole request
    size_t most_answers = 256;                        // requests that are being answered at the same time
};

/// The connection of a client. Besides the timeout for the next byte, there are timeouts for a whole request and a
/// whole answer, without which a client that sends or accepts single bytes could hold a thread forever.
class Connection final : public httplib::Stream {
  public:
    Connection(socket_t socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {}

    /// Waits for the next request and starts its timeout. Returns false if there is none.
    bool wait_for_request();

    /// True if the client has closed the connection. If it has only ended its half, which looks the same until bytes
    /// are sent to it, is_half_closed() is true instead.
    bool has_peer_gone() const;
    bool is_half_closed() const;
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
    mutable Clock::duration waited_{};  // time that the answer has waited for the client
    size_t n_written_ = 0;              // bytes of the answer written so far
    std::string buffer_;                // bytes received; [begin_, end_) have not been read yet
    size_t begin_ = 0;
    size_t end_ = 0;
};

/// httplib's server with connections of type Connection.
class HttpServer final : public httplib::Server {
  public:
    explicit HttpServer(const ConnectionLimits& limits);

    /// Binds to an address; port 0 means any free port. Returns the port.
    Result<int> bind(const std::string& host, int port);
    /// Closes all open connections and accepts no new ones.
    void end();
    const ConnectionLimits& limits() const { return limits_; }

    // The following functions refer to the request that the calling thread handles.

    /// Call this when the request line and headers have been parsed.
    static void understood();
    /// Call this if the answer has the header `Connection: close`.
    static void close_after();
    /// Call this when the whole request has been read. Returns false if there are too many answers at the same time.
    bool begin_answer();
    /// True if the client has closed the connection, even if some of its bytes have not been read.
    static bool client_has_gone();
    /// True once if the client has ended its half of the connection. Bytes must be sent to it then, so that
    /// client_has_gone() can tell whether it still listens.
    static bool must_try_client();
    /// Sends an interim response, which has no meaning, before the response itself.
    static void try_client();

  private:
    bool process_and_close_socket(socket_t socket) override;
    void process(socket_t socket);

    ConnectionLimits limits_;
    ConnectionTable table_;
};

}  // namespace cake::server
