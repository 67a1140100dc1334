#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ggml-backend.h>
#include <ggml-rpc.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <ranges>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "backend/devices.hpp"

namespace cake {

namespace {

struct Socket {
    explicit Socket(const addrinfo& address)
        : descriptor(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {}
    ~Socket() {
        if (descriptor >= 0) ::close(descriptor);
    }
    Socket(const Socket&) = delete;
    Socket& operator=(const Socket&) = delete;

    int descriptor;
};

/// The error number of a connection to an address; 0 if there is one.
int error_of_connection(const addrinfo& address) {
    constexpr int kTimeoutMs = 2000;
    const Socket socket(address);
    if (socket.descriptor < 0) return errno;
    if (::connect(socket.descriptor, address.ai_addr, address.ai_addrlen) == 0) return 0;
    if (errno != EINPROGRESS) return errno;
    pollfd waiting{.fd = socket.descriptor, .events = POLLOUT, .revents = 0};
    if (::poll(&waiting, 1, kTimeoutMs) != 1) return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof(error);
    return ::getsockopt(socket.descriptor, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

Result<void> check_name(const std::string& server) {
    const size_t colon = server.find(':');
    int port = 0;
    const auto digits = std::string_view(server).substr(colon == std::string::npos ? server.size() : colon + 1);
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    constexpr int kMaxPort = 65535;
    if (colon == 0 || read.ec != std::errc() || read.ptr != digits.data() + digits.size() || port < 1 ||
        port > kMaxPort)
        return fail(fmt::format("\"{}\" is not HOST:PORT, such as 127.0.0.1:50052", server));
    return {};
}

Result<void> reach(const std::string& server) {
    if (auto named = check_name(server); !named) return named;
    const auto host = server.substr(0, server.find(':'));
    const auto port = server.substr(host.size() + 1);
    addrinfo hints{};
    hints.ai_family = AF_INET;  // as ggml connects
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0)
        return fail(Error::Code::not_found,
                    fmt::format("{}: the name of the host does not resolve ({})", server, gai_strerror(error)));
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, &freeaddrinfo);
    const int error = error_of_connection(*found);
    if (error == 0) return {};
    return fail(Error::Code::not_found,
                fmt::format("{} cannot be reached ({}): start ggml-rpc-server there, with --host and --port", server,
                            std::strerror(error)));
}

/// The servers that were added. None is ever removed from ggml.
struct Servers {
    std::mutex mutex;
    ggml_abort_callback_t usual_abort = nullptr;  // the callback that was set before ours
    std::vector<std::string> names;
    std::function<void(const std::string& message)> lost;
};

Servers& servers() {
    static Servers all;
    return all;
}

/// What to say if one of the servers has failed.
std::string loss_message(const std::vector<std::string>& names) {
    // A process that is being killed may still accept connections.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    while (std::chrono::steady_clock::now() < end) {
        for (const auto& name : names)
            if (!reach(name))
                return fmt::format("the server {} has gone away: start it again, then start cake again", name);
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return fmt::format("{} does not answer as ggml {} does: is another version or another program running there?",
                       fmt::join(names, " or "), ggml_version());
}

/// ggml calls this before it aborts the process, usually on the thread that talks to the server.
void on_abort(const char* message) {
    std::vector<std::string> names;
    std::function<void(const std::string& message)> lost;
    ggml_abort_callback_t usual_abort = nullptr;
    {
        const std::scoped_lock lock(servers().mutex);
        names = servers().names;
        lost = servers().lost;
        usual_abort = servers().usual_abort;
    }
    const bool is_of_rpc = std::string_view(message).contains("RPC") || std::string_view(message).contains("ggml-rpc");
    if (!lost || !is_of_rpc) {
        if (usual_abort != nullptr) return usual_abort(message);
        std::fprintf(stderr, "%s\n", message);
        return;
    }
    lost(loss_message(names));
    for (;;) ::pause();  // ggml would abort the process
}

/// Calls ggml, which waits for ever if a program of another kind listens there.
Result<ggml_backend_reg_t> registry_of(const std::string& server) {
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    auto* add = rpc == nullptr ? nullptr
                               : reinterpret_cast<decltype(ggml_backend_rpc_add_server)*>(
                                     ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server"));
    if (add == nullptr)
        return fail(Error::Code::unsupported, "ggml has no RPC backend here: install libggml0-backend-rpc");
    std::packaged_task<ggml_backend_reg_t()> task([=] { return add(server.c_str()); });
    auto added = task.get_future();
    std::thread(std::move(task)).detach();
    constexpr std::chrono::seconds kTimeout(5);
    ggml_backend_reg_t registry = added.wait_for(kTimeout) == std::future_status::ready ? added.get() : nullptr;
    if (registry == nullptr)
        return fail(Error::Code::not_found,
                    fmt::format("{} does not answer: ggml-rpc-server serves one program at a time, or another program "
                                "listens there",
                                server));
    return registry;
}

Result<void> add_server(const std::string& server) {
    if (auto reached = reach(server); !reached) return reached;
    {
        const std::scoped_lock lock(servers().mutex);
        if (std::ranges::contains(servers().names, server)) return {};
        servers().names.push_back(server);
    }
    ggml_abort_callback_t before = ggml_set_abort_callback(on_abort);
    if (before != on_abort) {
        const std::scoped_lock lock(servers().mutex);
        servers().usual_abort = before;
    }
    const auto registry = registry_of(server);
    if (!registry) {
        const std::scoped_lock lock(servers().mutex);
        std::erase(servers().names, server);
        return std::unexpected(registry.error());
    }
    ggml_backend_register(*registry);
    return {};
}

}  // namespace

Result<void> add_rpc_servers(const std::string& names) {
    load_backends();
    for (const auto part : std::views::split(names, ','))
        if (auto added = add_server(std::string(std::string_view{part})); !added) return added;
    return {};
}

void on_lost_server(std::function<void(const std::string& message)> lost) {
    const std::scoped_lock lock(servers().mutex);
    servers().lost = std::move(lost);
}

}  // namespace cake
