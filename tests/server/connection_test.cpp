#include "server/connection.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace cake::server {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kShort(50);
constexpr milliseconds kLimit(400);
constexpr milliseconds kForever(600'000);
constexpr ConnectionLimits kNone{.next_byte = kForever,
                                 .whole_request = kForever,
                                 .next_request = kForever,
                                 .whole_answer = kForever,
                                 .bytes_per_second = 1};

/// Both ends of a connection: the server's end, which enforces the limits, and the client's end.
class Pair {
  public:
    explicit Pair(const ConnectionLimits& limits) {
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets_.data()), 0);
        connection_.emplace(sockets_[0], limits);
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() {
        for (const int socket : sockets_) ::close(socket);
    }

    Connection& server() { return *connection_; }
    void send(const std::string& text) { EXPECT_EQ(::write(client(), text.data(), text.size()), std::ssize(text)); }
    int client() const { return sockets_[1]; }

    /// Reads until a read fails or the connection is closed. Returns the number of bytes received.
    size_t read_all() {
        std::array<char, 100> buffer{};
        size_t n_all = 0;
        for (ssize_t n = 0; (n = server().read(buffer.data(), buffer.size())) > 0;) n_all += static_cast<size_t>(n);
        return n_all;
    }
    /// Writes until `n_bytes` are written or a write fails. Returns the number of bytes written.
    size_t write_all(size_t n_bytes) {
        const std::string text(n_bytes, 'x');
        size_t n_all = 0;
        while (n_all < n_bytes) {
            const auto n = server().write(text.data() + n_all, n_bytes - n_all);
            if (n < 0) break;
            n_all += static_cast<size_t>(n);
        }
        return n_all;
    }

  private:
    std::array<int, 2> sockets_{};
    std::optional<Connection> connection_;
};

/// A thread that repeats `work` with pauses until it is destroyed.
template <typename Work>
std::jthread now_and_then(Work work) {
    return std::jthread([work](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
            work();
            std::this_thread::sleep_for(kShort);
        }
    });
}

TEST(Connection, GivesAStalledRequestTimeForAByte) {
    auto limits = kNone;
    limits.next_byte = kLimit;
    Pair pair(limits);
    pair.send("POST /v1");
    const auto begin = Clock::now();
    EXPECT_EQ(pair.read_all(), 8U);
    EXPECT_GE(Clock::now() - begin, kLimit);
}

TEST(Connection, GivesATricklingRequestTimeAsAWhole) {
    auto limits = kNone;
    limits.whole_request = kLimit;
    Pair pair(limits);
    const auto client = now_and_then([&] { pair.send("x"); });
    EXPECT_TRUE(pair.server().wait_for_request());
    const auto begin = Clock::now();
    EXPECT_GE(pair.read_all(), 1U);
    EXPECT_GE(Clock::now() - begin, kLimit);
}

TEST(Connection, WaitsForTheNextRequestForAWhile) {
    auto limits = kNone;
    limits.next_request = kLimit;
    Pair pair(limits);
    EXPECT_FALSE(pair.server().wait_for_request());
}

constexpr size_t kManyBytes = size_t{8} << 20U;  // more than the system buffers for a reader

TEST(Connection, GivesAReaderThatStallsTimeForAByte) {
    auto limits = kNone;
    limits.next_byte = kLimit;
    Pair pair(limits);
    const auto begin = Clock::now();
    EXPECT_LT(pair.write_all(kManyBytes), kManyBytes);
    EXPECT_GE(Clock::now() - begin, kLimit);
}

ssize_t take_some(int socket, size_t n_bytes) {
    std::string buffer(n_bytes, '\0');
    return ::recv(socket, buffer.data(), buffer.size(), MSG_DONTWAIT);
}

ConnectionLimits for_whole_answers(size_t bytes_per_second) {
    auto limits = kNone;
    limits.whole_answer = kLimit;
    limits.bytes_per_second = bytes_per_second;
    return limits;
}

/// Writes kManyBytes to a client that repeatedly takes `n_taken` bytes, and returns the number of bytes written.
size_t written_to_reader(size_t n_taken, size_t bytes_per_second) {
    Pair pair(for_whole_answers(bytes_per_second));
    const auto client = now_and_then([&] { take_some(pair.client(), n_taken); });
    const auto begin = Clock::now();
    const size_t n_written = pair.write_all(kManyBytes);
    EXPECT_GE(Clock::now() - begin, kLimit);
    return n_written;
}

TEST(Connection, GivesAReaderThatTakesLittleTimeAsAWhole) {
    EXPECT_LT(written_to_reader(10'000, kManyBytes * 100), kManyBytes);
}

TEST(Connection, LetsASlowReaderTakeAllThatIsFastEnough) {
    EXPECT_EQ(written_to_reader(500'000, kManyBytes / 100), kManyBytes);
}

TEST(Connection, CountsEachAnswerAnew) {
    Pair pair(for_whole_answers(kManyBytes * 100));
    EXPECT_LT(pair.write_all(kManyBytes), kManyBytes);
    pair.send("GET");
    while (take_some(pair.client(), kManyBytes) > 0) {
    }
    EXPECT_EQ(pair.server().write("x", 1), -1);
    EXPECT_TRUE(pair.server().wait_for_request());
    EXPECT_EQ(pair.server().write("x", 1), 1);
}

}  // namespace
}  // namespace cake::server
