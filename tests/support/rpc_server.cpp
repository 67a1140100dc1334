#include "support/rpc_server.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "cake/device.hpp"

namespace cake::test {

namespace {

sockaddr_in address_of(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

int free_port() {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto address = address_of(0);
    socklen_t size = sizeof(address);
    const bool bound = ::bind(socket, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0;
    ::close(socket);
    if (!bound) throw std::runtime_error("no free port");
    return ntohs(address.sin_port);
}

bool accepts(int port) {
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto address = address_of(port);
    const bool connected = ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
    ::close(socket);
    return connected;
}

std::string path_of_program() {
    for (const auto& entry : std::filesystem::directory_iterator("/usr/libexec")) {
        const auto path = entry.path() / "llama/bin/ggml-rpc-server";
        if (std::filesystem::exists(path)) return path;
    }
    throw std::runtime_error("there is no ggml-rpc-server: install llama.cpp-tools");
}

}  // namespace

RpcServer::RpcServer(RpcServer&& other) noexcept : process_(std::exchange(other.process_, -1)) {}

std::string RpcServer::start() {
    auto program = path_of_program();
    const int port = free_port();
    auto number = std::to_string(port);
    std::string arguments[] = {program, "-H", "127.0.0.1", "-p", number, "-d", "CPU", "-t", "1"};
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int descriptor : {STDOUT_FILENO, STDERR_FILENO})
        posix_spawn_file_actions_addopen(&actions, descriptor, "/dev/null", O_WRONLY, 0);
    const int failed = posix_spawn(&process_, program.c_str(), &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) throw std::runtime_error("ggml-rpc-server cannot be started");
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!accepts(port)) {
        if (std::chrono::steady_clock::now() > end) throw std::runtime_error("ggml-rpc-server does not start");
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return fmt::format("127.0.0.1:{}", port);
}

void use_rpc_servers() {
    static std::array<RpcServer, 2> servers;
    static const bool added = [] {
        for (auto& server : servers)
            if (auto done = add_rpc_servers(server.start()); !done) throw std::runtime_error(done.error().message);
        return true;
    }();
    static_cast<void>(added);
}

void RpcServer::kill() {
    if (process_ < 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(std::exchange(process_, -1), nullptr, 0);
}

}  // namespace cake::test
