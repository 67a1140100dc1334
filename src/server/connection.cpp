#include "server/connection.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>

namespace cake::server {

namespace {

constexpr size_t kBufferBytes = size_t{16} << 10U;

/// The numeric address and the port of one end of a socket.
std::pair<std::string, int> name_of(socket_t socket, int (*end)(int, sockaddr*, socklen_t*)) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> service{};
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (end(socket, generic, &length) != 0 || getnameinfo(generic, length, host.data(), host.size(), service.data(),
                                                          service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return {"", 0};
    int port = 0;
    std::from_chars(service.data(), service.data() + std::char_traits<char>::length(service.data()), port);
    return {host.data(), port};
}

/// Finds the reason why the server could not bind to an address, which httplib does not report.
std::string why_not_bound(const std::string& host, int port) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0) {
        return fmt::format(
            "the name \"{}\" does not resolve ({}): --host takes an address of this machine, such as "
            "127.0.0.1",
            host, error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error));
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);
    const socket_t socket = ::socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
    const bool bound = socket >= 0 && ::bind(socket, found->ai_addr, found->ai_addrlen) == 0;
    const int error = bound ? 0 : errno;
    if (socket >= 0) ::close(socket);
    const auto where = fmt::format("cannot listen on {} port {}", host, port);
    switch (error) {
        case EADDRINUSE:
            return where + ": the port is in use; choose another with --port";
        case EACCES:
            return where + ": you may not use this port; choose one from 1024 up with --port";
        case EADDRNOTAVAIL:
        case EAFNOSUPPORT:
            return where +
                   ": this machine does not have that address; choose one of its own with --host, such as 127.0.0.1";
        default:
            return fmt::format("{}: {}", where, error == 0 ? "the system gives no reason" : std::strerror(error));
    }
}

thread_local Connection* t_connection = nullptr;

/// Sets the connection of the current thread during its lifetime.
struct Current {
    explicit Current(Connection& connection) { t_connection = &connection; }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;
    ~Current() { t_connection = nullptr; }
};

thread_local bool t_understood = false;
thread_local bool t_tried = false;

}  // namespace

bool Connection::wait_for(short events, std::chrono::milliseconds most) const {
    const auto end = Clock::now() + most;
    for (;;) {
        pollfd polled{.fd = socket_, .events = events, .revents = 0};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
        const int n = ::poll(&polled, 1, static_cast<int>(std::max<int64_t>(left, 0)));
        if (n < 0 && errno == EINTR) continue;
        return n > 0;
    }
}

bool Connection::wait_for_request() {
    const bool begun = is_readable() || wait_for(POLLIN, limits_.next_request);
    request_begin_ = Clock::now();
    waited_ = {};
    n_written_ = 0;
    return begun;
}

bool Connection::wait_readable() const {
    if (is_readable()) return true;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(request_begin_ + limits_.whole_request - Clock::now());
    return left.count() > 0 && wait_for(POLLIN, std::min(limits_.next_byte, left));
}

bool Connection::wait_writable() const {
    const std::chrono::milliseconds for_bytes(n_written_ * std::milli::den / limits_.bytes_per_second);
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(limits_.whole_answer + for_bytes - waited_);
    const auto begin = Clock::now();
    const bool writable = left.count() > 0 && wait_for(POLLOUT, std::min(limits_.next_byte, left));
    waited_ += Clock::now() - begin;
    return writable;
}

bool Connection::is_peer_alive() const {
    return !has_peer_gone();
}

bool Connection::has_peer_gone() const {
    pollfd polled{.fd = socket_, .events = 0, .revents = 0};
    return ::poll(&polled, 1, 0) > 0;  // POLLERR, POLLHUP
}

bool Connection::is_half_closed() const {
    pollfd polled{.fd = socket_, .events = POLLRDHUP, .revents = 0};
    return ::poll(&polled, 1, 0) > 0;
}

ssize_t Connection::read(char* to, size_t size) {
    if (!is_readable()) {
        if (!wait_readable()) {
            error_ = httplib::Error::Timeout;
            return -1;
        }
        buffer_.resize(kBufferBytes);
        ssize_t n = 0;
        do n = ::recv(socket_, buffer_.data(), buffer_.size(), 0);
        while (n < 0 && errno == EINTR);
        if (n <= 0) {
            error_ = n == 0 ? httplib::Error::ConnectionClosed : httplib::Error::Read;
            return n;
        }
        begin_ = 0;
        end_ = static_cast<size_t>(n);
    }
    const size_t n = std::min(size, end_ - begin_);
    std::copy_n(buffer_.data() + begin_, n, to);
    begin_ += n;
    return static_cast<ssize_t>(n);
}

ssize_t Connection::write(const char* from, size_t size) {
    if (!wait_writable()) return -1;
    ssize_t n = 0;
    do n = ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : n;
    n_written_ += static_cast<size_t>(n);
    return n;
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
    std::tie(ip, port) = name_of(socket_, getpeername);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
    std::tie(ip, port) = name_of(socket_, getsockname);
}

time_t Connection::duration() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - request_begin_).count();
}

HttpServer::HttpServer(const ConnectionLimits& limits)
    : limits_(limits), table_(limits.most_waiting, limits.most_answers) {
    // httplib sets SO_REUSEPORT by default, which would let a second server listen on the same port.
    set_socket_options([](socket_t socket) { httplib::set_socket_opt(socket, SOL_SOCKET, SO_REUSEADDR, 1); });
}

Result<int> HttpServer::bind(const std::string& host, int port) {
    const int bound = port == 0 ? bind_to_any_port(host) : bind_to_port(host, port) ? port : 0;
    if (bound <= 0) return fail(why_not_bound(host, port));
    // httplib uses a backlog of 5, which is too small if many clients connect at once.
    ::listen(svr_sock_, SOMAXCONN);
    return bound;
}

void HttpServer::end() {
    // Answers that are complete are still sent.
    constexpr std::chrono::seconds kMax(1);
    constexpr std::chrono::milliseconds kOften(5);
    table_.end_waiting();
    const auto begin = std::chrono::steady_clock::now();
    while (table_.has_answers() && std::chrono::steady_clock::now() - begin < kMax) std::this_thread::sleep_for(kOften);
    table_.end_all();
    stop();
}

void HttpServer::understood() {
    t_understood = true;
}

void HttpServer::close_after() {
    t_understood = false;
}

bool HttpServer::begin_answer() {
    return t_connection == nullptr || table_.begin_answer(t_connection->socket());
}

bool HttpServer::client_has_gone() {
    return t_connection != nullptr && t_connection->has_peer_gone();
}

bool HttpServer::must_try_client() {
    if (t_connection == nullptr || t_tried) return false;
    t_tried = t_connection->is_half_closed();
    return t_tried;
}

void HttpServer::try_client() {
    constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n";
    if (t_connection != nullptr) t_connection->write(kInterim.data(), kInterim.size());
}

bool HttpServer::process_and_close_socket(socket_t socket) {
    bool good = false;
    try {
        if (table_.add(socket, name_of(socket, getpeername).first)) process(socket);
        good = true;
    } catch (...) {
        good = false;  // memory ran out while an answer was written: close the connection
    }
    table_.remove(socket);
    ::shutdown(socket, SHUT_RDWR);
    ::close(socket);
    return good;
}

void HttpServer::process(socket_t socket) {
    Connection connection(socket, limits_);
    const Current current(connection);
    std::string remote_ip;
    std::string local_ip;
    int remote_port = 0;
    int local_port = 0;
    connection.get_remote_ip_and_port(remote_ip, remote_port);
    connection.get_local_ip_and_port(local_ip, local_port);
    for (size_t left = keep_alive_max_count_; left > 0 && connection.wait_for_request(); left--) {
        t_understood = false;
        t_tried = false;
        bool closed = false;
        const bool good =
            process_request(connection, remote_ip, remote_port, local_ip, local_port, left == 1, closed, nullptr);
        // After a request that could not be parsed, the next bytes may not be the beginning of another one.
        if (!good || closed || !t_understood) return;
        table_.wait(socket);
    }
}

}  // namespace cake::server
