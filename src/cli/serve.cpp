#if __has_include(<malloc.h>)
#include <fmt/format.h>
#include <malloc.h>
#endif

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <future>
#include <memory>

#include "cli/commands.hpp"
#include "cli/flags.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "server/access.hpp"
#include "server/http.hpp"

namespace cake::cli {

namespace {

struct ServeFlags {
    ModelFlags model;
    KvFlags kv;
    TemplateFlags chat_template;
    server::ServerOptions server;
    int64_t n_ctx = 0;
    int64_t segment = 0;
    int32_t grace_seconds = 30;
    std::string log_format = "text";
};

/// Makes glibc return freed memory to the system. By default, it keeps freed blocks of many megabytes in several arenas
/// for threads.
void keep_memory_flat() {
#ifdef M_ARENA_MAX
    constexpr int kLarge = 256 << 10;
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, kLarge);
#endif
}

/// Blocks the signals that end the server, so that the main thread can wait for them and they interrupt no thread. Call
/// it before any thread is created.
sigset_t hold_signals() {
    std::signal(SIGPIPE, SIG_IGN);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    return signals;
}

/// Waits for 20 ms. Returns true if one of the signals has arrived.
bool signal_comes(const sigset_t& signals) {
    constexpr long kMoment = 20'000'000;
    const timespec moment{.tv_sec = 0, .tv_nsec = kMoment};
    return sigtimedwait(&signals, nullptr, &moment) > 0;
}

void tell(const std::string& line) {
    std::fputs((line + "\n").c_str(), stderr);
}

std::string address(const server::ServerOptions& options, int port) {
    const bool any = options.host == "0.0.0.0" || options.host == "::";
    const std::string host = any ? "localhost" : options.host;
    return fmt::format("http://{}:{}/", host.contains(':') ? "[" + host + "]" : host, port);
}

void introduce(const ServeFlags& flags, const Engine& engine, const server::ApiServer& server) {
    const auto& limits = server.limits();
    const auto n_parallel = limits.n_parallel;
    const auto* budget = limits.sequence.budget ? std::get_if<TokensPerLayer>(&*limits.sequence.budget) : nullptr;
    const auto share = limits.bytes_of_stores / static_cast<uint64_t>(n_parallel);
    tell(fmt::format("{} at {}", printable(engine.info().path), address(flags.server, server.port())));
    tell(
        fmt::format("K/V memory: at most {}: {} sequences of {} tokens{} ({} each), and {} for what is held in "
                    "full of the prompts being read, {} tokens in total",
                    format_bytes(limits.kv_bytes), n_parallel,
                    format_count(static_cast<uint64_t>(budget != nullptr ? budget->tokens : limits.n_ctx)),
                    budget != nullptr ? " a layer" : "", format_bytes(share), format_bytes(limits.bytes_of_staging),
                    format_count(static_cast<uint64_t>(limits.n_ctx))));
    const auto& host = flags.server.host;
    const bool loopback = host == "localhost" || host == "::1" || host.starts_with("127.");
    if (!loopback && flags.server.api_keys.empty())
        tell("Anyone who can reach this address can use the model; --api-key sets a required key.");
}

/// Loads the model. A signal during this time ends the process at once, because there is nothing to shut down yet.
Result<Engine> load_model(const ModelFlags& flags, const sigset_t& signals) {
    auto loading = std::async(std::launch::async, [&] { return flags.load(); });
    while (loading.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
        if (signal_comes(signals)) std::_Exit(kInterrupted);
    return loading.get();
}

int serve(const ServeFlags& flags) {
    keep_memory_flat();
    const auto signals = hold_signals();
    auto engine = load_model(flags.model, signals);
    if (!engine) {
        complain(engine.error().message);
        return kFailed;
    }
    auto chat = flags.chat_template.chat_options();
    if (!chat) {
        complain(chat.error().message);
        return kFailed;
    }
    auto options = flags.server;
    options.chat = std::move(*chat);
    options.log = [](const std::string& line) { complain(line); };
    if (flags.log_format != "none") options.request_log = tell;
    options.log_as_json = flags.log_format == "json";
    auto server = server::ApiServer::start(*engine, options);
    if (!server) {
        complain(server.error().message);
        return kFailed;
    }
    on_lost_server([&server](const std::string& message) {
        complain(message);
        (*server)->lose(message);
    });
    introduce(flags, *engine, **server);
    while (!signal_comes(signals)) {
        if ((*server)->listens()) continue;
        complain("the server cannot accept more connections: is the system out of memory or file descriptors?");
        return kFailed;
    }
    (*server)->close();
    if ((*server)->is_busy())
        tell(fmt::format("Stopping: running requests have {} seconds to finish; interrupt again to stop at once.",
                         flags.grace_seconds));
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(flags.grace_seconds);
    while ((*server)->is_busy() && std::chrono::steady_clock::now() < end)
        if (signal_comes(signals)) break;
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // another signal ends the process at once
    on_lost_server([](const std::string& message) {   // while memory on it is freed
        complain(message);
        std::_Exit(kFailed);
    });
    if ((*server)->has_lost_device()) std::_Exit(kFailed);
    return kDone;
}

}  // namespace

void add_serve(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<ServeFlags>();
    auto* serve_app = app.add_subcommand("serve", "run an OpenAI-compatible server with a chat page");
    // Chunks are shorter than for a single prompt, because other requests wait for their next token meanwhile.
    flags->model.options.n_batch = 128;
    flags->model.add_to(*serve_app);
    auto& server = flags->server;
    serve_app->add_option("--host", server.host, "address to listen on; 0.0.0.0: all addresses")
        ->check([](const std::string& host) { return host.empty() ? "the address is empty" : ""; })
        ->type_name("ADDRESS")
        ->capture_default_str();
    serve_app->add_option("--port", server.port, "port to listen on; 0: any free port")
        ->type_name("N")
        ->check(CLI::Range(0, 65535))
        ->capture_default_str();
    serve_app->add_option("--parallel", server.batcher.pool.n_parallel, "number of sequences at once")
        ->type_name("N")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    serve_app
        ->add_option("--queue", server.batcher.n_queue, "number of requests that may wait; further ones are rejected")
        ->type_name("N")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str();
    serve_app
        ->add_option(
            "--api-key", server.api_keys,
            "keys, one of which requests must send; CAKE_API_KEY sets them without showing them in process lists")
        ->type_name("KEY[,KEY …]")
        ->envname("CAKE_API_KEY")
        ->delimiter(',')
        ->check([](const std::string& key) { return key.empty() ? "an empty key would let everyone in" : ""; });
    serve_app
        ->add_option("--cors", server.cors,
                     "origin of web pages that may use the server, such as https://example.org; *: all, with --api-key")
        ->type_name("ORIGIN")
        ->check([](const std::string& origin) {
            const bool good = origin == "*" || ((origin.starts_with("http://") || origin.starts_with("https://") ||
                                                 origin.contains("-extension://")) &&
                                                !origin.ends_with('/'));
            return good ? "" : "an origin looks like https://example.org, without a path";
        });
    serve_app->add_option("--log-format", flags->log_format, "format of the line about each request on standard error")
        ->check(CLI::IsMember({"text", "json", "none"}))
        ->type_name("FORMAT")
        ->capture_default_str();
    serve_app
        ->add_option("--slot-save-path", server.slot_save_path,
                     "folder in which clients may save the sequences of their conversations")
        ->type_name("FOLDER")
        ->check(CLI::ExistingDirectory);
    serve_app
        ->add_option("--documents", server.documents_path,
                     "folder of documents that cake read has saved as NAME.kv; requests name one of them")
        ->type_name("FOLDER")
        ->check(CLI::ExistingDirectory);
    serve_app->add_flag("-v,--verbose", server.log_bodies,
                        "log the bodies of requests and answers too, but not of streams");
    serve_app
        ->add_option("--trusted-proxy", server.proxies,
                     "addresses of proxies whose X-Forwarded-For says which client asks")
        ->type_name("ADDRESS[,ADDRESS …]")
        ->delimiter(',')
        ->check([](const std::string& address) {
            return server::is_address(address) ? "" : "a proxy is named by its IP address, such as 10.0.0.1";
        });
    serve_app
        ->add_option("--reasoning-budget", server.reasoning.max_tokens,
                     "tokens that an answer may spend on reasoning; 0: none, -1: any number")
        ->type_name("N")
        ->check(CLI::Range(int64_t{-1}, int64_t{1} << 31))
        ->capture_default_str();
    serve_app
        ->add_option_function<std::string>(
            "--reasoning-format",
            [&server](const std::string& format) { server.reasoning.is_content = format == "none"; },
            "auto: reasoning is a field of its own, reasoning_content; none: it stays in the text of the answer")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"auto", "deepseek", "deepseek-legacy", "none"}));
    flags->chat_template.add_to(*serve_app);
    serve_app
        ->add_option("--grace", flags->grace_seconds,
                     "seconds that running requests have to finish when the server is stopped")
        ->type_name("SECONDS")
        ->check(CLI::Range(0, 86400))
        ->capture_default_str();
    serve_app
        ->add_option("-c,--ctx-size", flags->n_ctx,
                     "maximum tokens of a prompt and its answer; 0: the model's trained context")
        ->type_name("N")
        ->check(CLI::Range(int64_t{0}, int64_t{1} << 28))
        ->capture_default_str();
    add_segment(*serve_app, flags->segment);
    flags->kv.add_to(*serve_app);
    add_sampling(*serve_app, server.sampling);
    serve_app->callback([flags, serve_app, &action] {
        auto sequence = flags->kv.sequence_options();
        if (sequence.budget && std::holds_alternative<KvRatio>(*sequence.budget))
            throw CLI::ValidationError(
                "--kv-ratio: a share of each prompt has no bound: use --kv-memory or --kv-budget");
        warn_of_unread_flags(*serve_app, {&sequence, 1});
        if (flags->server.cors == "*" && flags->server.api_keys.empty())
            throw CLI::ValidationError(
                "--cors: * lets every web page use the server: set --api-key too, or name an origin");
        auto& pool = flags->server.batcher.pool;
        if (const auto* bytes = sequence.budget ? std::get_if<KvBytes>(&*sequence.budget) : nullptr) {
            pool.kv_bytes = bytes->bytes;
            sequence.budget.reset();
        }
        pool.sequence = std::move(sequence);
        pool.n_ctx = flags->n_ctx;
        pool.segment = flags->segment;
        pool.may_replay = !flags->server.documents_path.empty();
        action = [flags] { return serve(*flags); };
    });
}

}  // namespace cake::cli
