#include "server/http.hpp"

#include <fmt/format.h>

#include <filesystem>

#include "server/access.hpp"
#include "server/connection_threads.hpp"
#include "server/page_files.hpp"
#include "server/properties.hpp"
#include "server/respond.hpp"
#include "server/slot_files.hpp"
#include "server/slots.hpp"
#include "text/answer_text.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

using httplib::Request;
using httplib::Response;

constexpr size_t kMaxBytesOfBodies = size_t{256} << 20U;  // all requests together

/// The path without an ID, which would give access to the text of a request.
std::string path_to_log(const Request& request) {
    return request.matched_route == "/slots/:id" ? request.matched_route : request.path;
}

/// The message of an error response; empty if it is none.
std::string error_in(const Response& response) {
    if (response.status < kInvalid) return {};
    const auto body = Json::parse(response.body, nullptr, false);
    const auto error = body.is_object() ? body.value("error", Json()) : Json();
    return error.is_object() && error.contains("message") ? error["message"].get<std::string>() : std::string();
}

/// Lets pages of the allowed origin read the response.
void allow_origin(const std::string& cors, Response& response) {
    response.set_header("Access-Control-Allow-Origin", cors);
    response.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    response.set_header("Access-Control-Allow-Headers", "*, Authorization");
    response.set_header("Access-Control-Expose-Headers", "*");
    response.set_header("Vary", "Origin");
}

/// The limits of connections, with room for all requests that may run or wait.
ConnectionLimits with_room_for(const ServerOptions& options) {
    constexpr size_t kOthers = 64;  // health checks, the page
    auto limits = options.limits;
    limits.most_answers =
        static_cast<size_t>(options.batcher.pool.n_parallel) + static_cast<size_t>(options.batcher.n_queue) + kOthers;
    return limits;
}

ApiError too_busy() {
    constexpr std::chrono::seconds kSoon(5);
    return {.status = kUnavailable,
            .message = "too many requests are being sent to the server at once: try again later",
            .code = "overloaded",
            .retry_after = kSoon};
}

}  // namespace

Result<std::unique_ptr<ApiServer>> ApiServer::start(const Engine& engine, const ServerOptions& options) {
    const ChatMessage trial{.role = "user", .content = "?"};
    const auto& chat = options.chat;
    if (!chat.template_name.empty() || !chat.template_source.empty() || !chat.template_kwargs.empty()) {
        if (auto possible = engine.chat_prompt({&trial, 1}, chat); !possible) return std::unexpected(possible.error());
    }
    auto batcher = Batcher::start(engine, options.batcher);
    if (!batcher) return std::unexpected(batcher.error());
    std::unique_ptr<ApiServer> server(new ApiServer(engine, options, std::move(*batcher)));
    const auto port = server->http_.bind(options.host, options.port);
    if (!port) return std::unexpected(port.error());
    server->port_ = *port;
    server->listener_ = std::thread([raw = server.get()] {
        raw->http_.listen_after_bind();
        raw->state_.listens = false;
    });
    server->http_.wait_until_ready();
    return server;
}

ApiServer::ApiServer(const Engine& engine, const ServerOptions& options, std::unique_ptr<Batcher> batcher)
    : engine_(engine),
      options_(options),
      model_(std::filesystem::path(engine.info().path).stem().string()),
      batcher_(std::move(batcher)),
      request_log_(options.request_log, options.log_as_json),
      completions_(engine, *batcher_, model_,
                   {.chat = options.chat,
                    .sampling = options.sampling,
                    .reasoning = options.reasoning,
                    .has_keys = !options.api_keys.empty(),
                    .proxies = options.proxies,
                    .documents_path = options.documents_path},
                   metrics_, turns_, request_log_, options.log),
      http_(with_room_for(options)) {
    // Each connection occupies a thread, even while it waits for an answer.
    http_.new_task_queue = [this] {
        constexpr size_t kEnding = 256;  // connections that have been closed, but whose threads still run
        return new ConnectionThreads(http_.limits().most_waiting + http_.limits().most_answers + kEnding);
    };
    http_.set_payload_max_length(kMaxBodyBytes);
    http_.set_tcp_nodelay(true);
    http_.set_pre_routing_handler([this](const Request& request, Response& response) {
        // httplib would act on these headers: send only a part of an answer, or refuse the encoding "identity".
        auto& headers = const_cast<Request&>(request).headers;
        headers.erase("Range");
        if (request.get_header_value("Content-Encoding") == "identity") headers.erase("Content-Encoding");
        const_cast<Request&>(request).ranges.clear();
        RequestLog::notes() = {.begin = std::chrono::steady_clock::now()};
        return let_in(request, response) ? httplib::Server::HandlerResponse::Unhandled
                                         : httplib::Server::HandlerResponse::Handled;
    });
    http_.set_error_handler([](const Request& request, Response& response) {
        if (!response.body.empty()) return;
        const auto message =
            response.status == kNotFound
                ? fmt::format("there is nothing at {} {}", beginning_of(request.method), beginning_of(request.path))
            : response.status == kTooLarge
                ? too_large()
                : fmt::format("the request cannot be understood ({})", httplib::status_message(response.status));
        send(response, ApiError{.status = response.status, .message = message}, request.path);
    });
    http_.set_exception_handler([](const Request& request, Response& response, const std::exception_ptr& thrown) {
        std::string what = "unexpected";
        try {
            std::rethrow_exception(thrown);
        } catch (const std::bad_alloc&) {
            what = "out of memory: send a shorter request";
        } catch (const std::exception& error) {
            what = fmt::format("unexpected: {}", error.what());
        }
        send(response, ApiError{.status = kFailed, .message = what}, request.path);
    });
    http_.set_logger([this](const Request& request, const Response& response) {
        const auto& route = request.matched_route;
        const std::string name = route.empty() ? "other" : route.contains('(') ? "/v1/models/:model" : route;
        metrics_.add_request(name, response.status);
        if (response.get_header_value("Connection") == "close") HttpServer::close_after();
        if (RequestLog::notes().is_stream) return;
        if (options_.log_bodies && request.method == "POST") request_log_.write_body("answer", response.body);
        request_log_.write(request.method, path_to_log(request), response.status, error_in(response));
        RequestLog::notes() = {};
    });
    add_routes();
    add_pages();
}

ApiServer::~ApiServer() {
    close();
    batcher_->end_all();
    // Wait until the last answers have been sent.
    constexpr std::chrono::seconds kMax(2);
    constexpr std::chrono::milliseconds kOften(5);
    const auto begin = std::chrono::steady_clock::now();
    while (completions_.n_answers() > 0 && std::chrono::steady_clock::now() - begin < kMax)
        std::this_thread::sleep_for(kOften);
    http_.end();
    if (listener_.joinable()) listener_.join();
}

void ApiServer::close() {
    state_.closing = true;
    batcher_->close();
}

/// Checks a request before its body is read. If it is refused, sends an error response and returns false.
bool ApiServer::let_in(const Request& request, Response& response) {
    HttpServer::understood();
    if (!options_.cors.empty()) allow_origin(options_.cors, response);
    const auto checked =
        check_access(request, {.host = options_.host, .cors = options_.cors, .api_keys = options_.api_keys});
    if (!checked) {
        send(response, checked.error(), request.path);
        return false;
    }
    // The body of a POST has not been read yet. Other requests have none.
    const bool is_whole = request.method != "POST";
    if (is_whole && (request.get_header_value_u64("Content-Length") > 0 || request.has_header("Transfer-Encoding"))) {
        response.set_header("Connection", "close");
        send(response, ApiError{.message = "only a POST has a body"}, request.path);
        return false;
    }
    if (is_whole && !http_.begin_answer()) {
        send(response, too_busy(), request.path);
        return false;
    }
    return true;
}

/// Adds a route whose body is parsed as JSON whatever its content type is: `curl -d` labels every body as a form.
void ApiServer::post(const char* path, BodyHandler handler) {
    http_.Post(path, [this, handler = std::move(handler)](const Request& request, Response& response,
                                                          const httplib::ContentReader& read) {
        std::string body;
        const std::shared_ptr<void> end(nullptr, [&](void*) { state_.n_body_bytes -= body.size(); });
        bool fits = true;
        bool room = true;
        const bool whole = read([&](const char* data, size_t n) {
            fits = body.size() + n <= kMaxBodyBytes;
            room = state_.n_body_bytes + n <= kMaxBytesOfBodies;
            if (!fits || !room) return false;
            body.append(data, n);
            state_.n_body_bytes += n;
            return true;
        });
        if (whole && !http_.begin_answer()) return send(response, too_busy(), request.path);
        if (whole && options_.log_bodies) request_log_.write_body(request.path, body);
        if (whole) return handler(request, response, body);
        if (!room) return send(response, too_busy(), request.path);
        if (!fits) response.status = kTooLarge;
        if (response.status < 0) response.status = kTimeout;
    });
}

void ApiServer::add_routes() {
    const auto add = [this](const char* path, Api api) {
        post(path, [this, api](const Request& request, Response& response, const std::string& body) {
            completions_.answer(api, request, response, body);
        });
    };
    for (const char* path : {"/v1/chat/completions", "/chat/completions"}) add(path, Api::chat);
    add("/v1/completions", Api::text);
    for (const char* path : {"/completion", "/completions"}) add(path, Api::native);
    add("/infill", Api::infill);
    for (const char* path : {"/v1/responses", "/responses"}) add(path, Api::responses);
    add("/v1/messages", Api::messages);
    post("/v1/messages/count_tokens", [this](const Request& request, Response& response, const std::string& body) {
        completions_.count_tokens(request, response, body);
    });
    post("/apply-template", [this](const Request& request, Response& response, const std::string& body) {
        completions_.apply_template(request, response, body);
    });
    const auto models = [this] {
        const auto& info = engine_.info();
        return Json{{"id", model_},
                    {"object", "model"},
                    {"created", 0},
                    {"owned_by", "cake"},
                    {"meta",
                     {{"n_ctx", batcher_->limits().n_ctx},
                      {"n_ctx_train", info.n_ctx_train},
                      {"n_vocab", info.n_vocab},
                      {"n_params", info.n_params},
                      {"n_layer", info.n_layer}}}};
    };
    for (const char* path : {"/v1/models", "/models"})
        http_.Get(path, [models](const Request&, Response& response) {
            send(response, Json{{"object", "list"}, {"data", Json::array({models()})}});
        });
    http_.Get(R"(/v1/models/(.+))", [this, models](const Request& request, Response& response) {
        const auto name = request.matches[1].str();
        if (name == model_) return send(response, models());
        send(response,
             ApiError{.status = kNotFound,
                      .message = fmt::format("there is no model \"{}\" here; use \"{}\"", beginning_of(name), model_),
                      .code = "model_not_found"});
    });
    post("/tokenize", [this](const Request&, Response& response, const std::string& body) {
        const auto turn = turns_.take();
        const auto read = read_tokenize_request(engine_, body);
        if (!read) return send(response, read.error());
        Json answer{
            {"tokens", read->tokens}, {"count", read->tokens.size()}, {"max_model_len", batcher_->limits().n_ctx}};
        if (read->with_pieces) answer["pieces"] = token_texts(engine_, read->tokens);
        send(response, answer);
    });
    post("/detokenize", [this](const Request&, Response& response, const std::string& body) {
        const auto turn = turns_.take();
        const auto tokens = read_detokenize_request(engine_, body);
        if (!tokens) return send(response, tokens.error());
        std::string text;
        for (const Token token : *tokens) text += engine_.piece(token, true);
        text = to_utf8(text);
        send(response, Json{{"content", text}, {"prompt", text}});
    });
    // The question of a browser that precedes a request to another origin. let_in() has answered it.
    if (!options_.cors.empty())
        http_.Options(".*", [](const Request&, Response& response) { response.status = kNoContent; });
    http_.Get("/health", [this](const Request&, Response& response) {
        if (state_.closing)
            return send(response, ApiError{.status = kUnavailable, .message = "the server is being stopped"});
        if (has_lost_device())
            return send(response, ApiError{.status = kUnavailable, .message = batcher_->refusal()->message});
        send(response, Json{{"status", "ok"}});
    });
    http_.Get("/metrics", [this](const Request&, Response& response) {
        response.set_content(metrics_.text(batcher_->report()), "text/plain; version=0.0.4");
    });
    http_.Get("/props", [this](const Request&, Response& response) {
        send(response, properties_json(engine_, batcher_->limits(), options_.sampling, options_.chat));
    });
    http_.Get("/tokenizer_info",
              [this](const Request&, Response& response) { send(response, tokenizer_json(engine_, options_.chat)); });
    for (const char* path : {"/v1/embeddings", "/embeddings", "/embedding", "/v1/rerank", "/rerank"})
        post(path, [](const Request& request, Response& response, const std::string&) {
            send(response,
                 ApiError{.message = "this server runs models that write texts, which are not fit for embeddings: use "
                                     "a server with an embedding model for this request"},
                 request.path);
        });
    for (const char* path : {"/v1/documents", "/documents"})
        http_.Get(path, [this](const Request&, Response& response) {
            send(response, documents_json(completions_.documents(), batcher_->limits()));
        });
    http_.Get("/slots", [this](const Request&, Response& response) {
        const auto slots = batcher_->slots();
        send(response, slots_json(engine_, slots, batcher_->report()));
    });
    http_.Get("/slots/:id", [this](const Request& request, Response& response) {
        const auto slot = batcher_->slot(request.path_params.at("id"));
        if (slot) return send(response, slot_json(engine_, *slot, request.get_param_value("pieces") == "1"));
        send(response, ApiError{.status = kNotFound, .message = "no request with that id is in memory any more"});
    });
    post("/slots/:id", [this](const Request& request, Response& response, const std::string& body) {
        const auto turn = turns_.take();
        const auto salt_of = [&](const Json& stated) { return whole_salt(request, options_.proxies, stated); };
        const auto done = act_on_slot(*batcher_, options_.slot_save_path, request, body, salt_of);
        if (!done) return send(response, done.error(), request.path);
        send(response, *done);
    });
}

void ApiServer::add_pages() {
    for (const auto& file : page_files()) {
        http_.Get(std::string(file.path), [&file](const Request&, Response& response) {
            response.set_header("Content-Security-Policy",
                                "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'");
            response.set_header("X-Content-Type-Options", "nosniff");
            response.set_header("Cache-Control", "no-cache");
            response.set_content(file.content.data(), file.content.size(), file.type);
        });
    }
}

}  // namespace cake::server
