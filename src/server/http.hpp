#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/answer.hpp"
#include "server/api_error.hpp"
#include "server/connection.hpp"
#include "server/metrics.hpp"
#include "server/request.hpp"
#include "server/unknown_fields.hpp"

namespace cake::server {

struct ServerOptions {
    std::string host = "127.0.0.1";
    int port = 8080;  // 0: any free port
    std::string api_key{};
    ChatOptions chat{};
    BatcherOptions batcher;
    SamplingOptions sampling;
    ConnectionLimits limits;
    LogFunction log{};  // null: no log; called from several threads
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
    bool is_busy() { return batcher_->is_busy() || load_.n_answers > 0; }
    /// False if the server does not accept connections any more, for example because of a system error.
    bool listens() const { return listens_; }

  private:
    /// What is being worked on now.
    struct Load {
        static constexpr int kMaxPrepared = 4;
        std::atomic<int> n_answers = 0;        // answers in progress
        std::atomic<size_t> n_body_bytes = 0;  // total size of the request bodies in memory
        std::counting_semaphore<> preparing{kMaxPrepared};
    };

    ApiServer(const Engine& engine, const ServerOptions& options, std::unique_ptr<Batcher> batcher);

    void add_routes();
    void add_pages();
    bool let_in(const httplib::Request& request, httplib::Response& response) const;
    using BodyHandler = std::function<void(const httplib::Request&, httplib::Response&, const std::string& body)>;
    void post(const char* path, BodyHandler handler);
    void complete(const httplib::Request& request, httplib::Response& response, const std::string& body, bool chat);
    std::shared_ptr<void> take_turn();
    ApiResult<CompletionRequest> prepare(const std::string& body, bool chat);
    static void send_stream(const httplib::Request& request, httplib::Response& response,
                            const std::shared_ptr<Answer>& answer);
    RequestContext context() const;

    Engine engine_;
    ServerOptions options_;
    std::string model_;
    std::unique_ptr<Batcher> batcher_;
    Metrics metrics_;
    UnknownFields unknown_fields_;
    std::atomic<bool> closing_ = false;
    std::atomic<bool> listens_ = true;
    Load load_;
    HttpServer http_;
    int port_ = 0;
    std::thread listener_;
};

}  // namespace cake::server
