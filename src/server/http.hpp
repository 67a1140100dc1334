#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/api_error.hpp"
#include "server/completions.hpp"
#include "server/connection.hpp"
#include "server/metrics.hpp"
#include "server/request_log.hpp"

namespace cake::server {

struct ServerOptions {
    std::string host = "127.0.0.1";
    int port = 8080;                      // 0: any free port
    std::vector<std::string> api_keys{};  // empty: no key is required
    std::vector<std::string> proxies{};   // addresses of proxies that say for whom they ask
    ChatOptions chat{};
    BatcherOptions batcher;
    SamplingOptions sampling;
    ReasoningOptions reasoning{};
    ConnectionLimits limits;
    std::string cors{};            // origin whose pages may use the server; "*": all, with a key; empty: none
    LogFunction log{};             // for warnings; null: none; called from several threads
    LogFunction request_log{};     // for a line about each request
    std::string slot_save_path{};  // folder for sequences that clients save; empty: none
    std::string documents_path{};  // folder of documents that requests may name; empty: none
    bool log_as_json = false;
    bool log_bodies = false;  // log the bodies of requests and answers, except streams
};

/// HTTP server for the OpenAI API and the chat page.
class ApiServer {
  public:
    static Result<std::unique_ptr<ApiServer>> start(const Engine& engine, const ServerOptions& options);
    ~ApiServer();

    int port() const { return port_; }
    const BatcherLimits& limits() const { return batcher_->limits(); }

    /// Refuses all further requests; running ones continue.
    void close();
    bool is_busy() { return batcher_->is_busy() || completions_.n_answers() > 0; }
    /// False if the server does not accept connections any more, for example because of a system error.
    bool listens() const { return state_.listens; }
    /// Ends all requests with this error and refuses further ones, because a device has gone away. The server must not
    /// be destroyed then, because its computing thread waits for ever.
    void lose(const std::string& message) { batcher_->lose(message); }
    bool has_lost_device() {
        return batcher_->refusal()
            .transform([](const auto& it) { return it.reason == Refusal::Reason::lost; })
            .value_or(false);
    }

  private:
    struct State {
        std::atomic<bool> closing = false;
        std::atomic<bool> listens = true;
        std::atomic<size_t> n_body_bytes = 0;  // total size of the request bodies in memory
    };

    ApiServer(const Engine& engine, const ServerOptions& options, std::unique_ptr<Batcher> batcher);

    void add_routes();
    void add_pages();
    bool let_in(const httplib::Request& request, httplib::Response& response);
    using BodyHandler = std::function<void(const httplib::Request&, httplib::Response&, const std::string& body)>;
    void post(const char* path, BodyHandler handler);

    Engine engine_;
    ServerOptions options_;
    std::string model_;
    std::unique_ptr<Batcher> batcher_;
    Metrics metrics_;
    RequestLog request_log_;
    Turns turns_;
    Completions completions_;
    State state_;
    HttpServer http_;
    int port_ = 0;
    std::thread listener_;
};

}  // namespace cake::server
