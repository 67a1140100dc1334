#include "server/connection_table.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace cake::server {
namespace {

/// A connection in a table, and the client's end of it.
class Client {
  public:
    Client() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets_.data()), 0); }
    Client(ConnectionTable& table, const std::string& address) : Client() { EXPECT_TRUE(table.add(socket(), address)); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;
    ~Client() {
        for (const int socket : sockets_) ::close(socket);
    }

    int socket() const { return sockets_[0]; }
    bool is_shut() const {
        char byte = 0;
        const auto n = ::recv(sockets_[1], &byte, 1, MSG_DONTWAIT);
        EXPECT_TRUE(n == 0 || (n < 0 && errno == EAGAIN));
        return n == 0;
    }

  private:
    std::array<int, 2> sockets_{};
};

TEST(ConnectionTable, ShutsTheOneThatHasWaitedLongestOfTheBusiestAddress) {
    ConnectionTable table(3, 10);
    const Client first(table, "a");
    const Client second(table, "b");
    const Client third(table, "b");
    EXPECT_FALSE(first.is_shut() || second.is_shut() || third.is_shut());
    const Client fourth(table, "c");
    EXPECT_TRUE(second.is_shut());
    EXPECT_FALSE(first.is_shut() || third.is_shut() || fourth.is_shut());
    const Client fifth(table, "d");
    EXPECT_TRUE(first.is_shut()) << "what is shut does not count, so all addresses have one";
}

TEST(ConnectionTable, LetsAnswersGoOnHoweverManyWait) {
    ConnectionTable table(1, 10);
    const Client busy(table, "a");
    EXPECT_TRUE(table.begin_answer(busy.socket()));
    const Client waiting(table, "a");
    const Client other(table, "a");
    EXPECT_TRUE(waiting.is_shut());
    EXPECT_FALSE(busy.is_shut() || other.is_shut());
    EXPECT_TRUE(table.has_answers());
    table.wait(busy.socket());
    EXPECT_TRUE(other.is_shut()) << "it has waited longer";
    EXPECT_FALSE(busy.is_shut());
    EXPECT_FALSE(table.has_answers());
}

TEST(ConnectionTable, RefusesAnswersBeyondItsLimit) {
    ConnectionTable table(10, 1);
    const Client first(table, "a");
    const Client second(table, "b");
    EXPECT_TRUE(table.begin_answer(first.socket()));
    EXPECT_FALSE(table.begin_answer(second.socket()));
    table.remove(first.socket());
    table.wait(second.socket());
    EXPECT_TRUE(table.begin_answer(second.socket()));
}

TEST(ConnectionTable, AfterTheEndOnlyAnswersAreLeft) {
    ConnectionTable table(10, 10);
    const Client busy(table, "a");
    const Client waiting(table, "b");
    EXPECT_TRUE(table.begin_answer(busy.socket()));
    table.end_waiting();
    EXPECT_TRUE(waiting.is_shut());
    EXPECT_FALSE(busy.is_shut());
    const Client late;
    EXPECT_FALSE(table.add(late.socket(), "c"));
    table.wait(busy.socket());
    EXPECT_TRUE(busy.is_shut());
}

}  // namespace
}  // namespace cake::server
