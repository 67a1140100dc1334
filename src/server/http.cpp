#include "server/http.hpp"

#include <filesystem>
#include <format>
#include <random>

#include "server/access.hpp"
#include "server/answer.hpp"
#include "server/connection_threads.hpp"
#include "server/page_files.hpp"
#include "server/slots.hpp"
#include "text/answer_text.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

using httplib::Request;
using httplib::Response;

constexpr size_t kMaxBytesOfBodies = size_t{256} << 20U;  // all requests together
// Interval at which the server checks whether the client has closed the connection.
constexpr std::chrono::milliseconds kLook(20);
// A stream gets a comment after this time without output, so that proxies and clients do not time out during a prefill.
constexpr std::chrono::seconds kSilence(10);
constexpr const char* kJson = "application/json";
constexpr const char* kEvents = "text/event-stream";

std::string text_of(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void send(Response& response, const ApiError& error) {
    response.status = error.status;
    if (error.retry_after.count() > 0) response.set_header("Retry-After", std::to_string(error.retry_after.count()));
    response.set_content(to_json(error), kJson);
}

void send(Response& response, const Json& json) {
    response.set_content(text_of(json), kJson);
}

/// Formats a server-sent event.
std::string event(const std::string& data) {
    return "data: " + data + "\n\n";
}

ApiError error_of(const Refusal& refusal, bool chat) {
    const char* const prompt = chat ? "messages" : "prompt";
    switch (refusal.reason) {
        case Refusal::Reason::invalid:
            return {.status = kInvalid, .message = refusal.message};
        case Refusal::Reason::constraint:
            return {.status = kInvalid, .message = refusal.message, .param = "grammar"};
        case Refusal::Reason::budget:
            return {.status = kInvalid, .message = refusal.message, .param = "kv_budget"};
        case Refusal::Reason::too_long:
            return {.status = kInvalid, .message = refusal.message, .param = prompt, .code = "context_length_exceeded"};
        case Refusal::Reason::busy:
            break;
    }
    return {
        .status = kUnavailable, .message = refusal.message, .code = "overloaded", .retry_after = refusal.retry_after};
}

ApiError too_busy() {
    constexpr std::chrono::seconds kSoon(5);
    return {.status = kUnavailable,
            .message = "too much is being sent to the server at once: try again later",
            .code = "overloaded",
            .retry_after = kSoon};
}

/// A random ID that cannot be guessed, because it gives access to the text of the request (/slots/ID).
std::string new_id(bool chat) {
    std::random_device random;
    return std::format("{}-{:08x}{:08x}{:08x}{:08x}", chat ? "chatcmpl" : "cmpl", random(), random(), random(),
                       random());
}

/// Keywords of the request's schema that are ignored, as the value of a header.
std::string not_enforced(const CompletionRequest& request) {
    constexpr size_t kMaxBytes = 1000;
    std::string names;
    if (!request.generation.constraint) return names;
    for (const auto& name : request.generation.constraint->not_enforced()) names += (names.empty() ? "" : ", ") + name;
    std::ranges::replace_if(names, [](char c) { return c < ' ' || c > '~'; }, '?');
    return names.substr(0, kMaxBytes);
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
        raw->listens_ = false;
    });
    server->http_.wait_until_ready();
    return server;
}

ApiServer::ApiServer(const Engine& engine, const ServerOptions& options, std::unique_ptr<Batcher> batcher)
    : engine_(engine),
      options_(options),
      model_(std::filesystem::path(engine.info().path).stem().string()),
      batcher_(std::move(batcher)),
      unknown_fields_(options.log),
      http_(options.limits) {
    // Each connection occupies a thread, even while it waits for an answer.
    const auto n_requests =
        static_cast<size_t>(options.batcher.pool.n_parallel) + static_cast<size_t>(options.batcher.n_queue);
    http_.new_task_queue = [n_requests] {
        constexpr size_t kOthers = 64;  // health checks, the page, idle connections
        return new ConnectionThreads(n_requests + kOthers);
    };
    http_.set_payload_max_length(kMaxBodyBytes);
    http_.set_tcp_nodelay(true);
    http_.set_pre_routing_handler([this](const Request& request, Response& response) {
        // httplib would act on these headers: send only a part of an answer, or refuse the encoding "identity".
        auto& headers = const_cast<Request&>(request).headers;
        headers.erase("Range");
        if (request.get_header_value("Content-Encoding") == "identity") headers.erase("Content-Encoding");
        const_cast<Request&>(request).ranges.clear();
        return let_in(request, response) ? httplib::Server::HandlerResponse::Unhandled
                                         : httplib::Server::HandlerResponse::Handled;
    });
    http_.set_error_handler([](const Request& request, Response& response) {
        if (!response.body.empty()) return;
        const auto message =
            response.status == kNotFound
                ? std::format("there is nothing at {} {}", beginning_of(request.method), beginning_of(request.path))
            : response.status == kTooLarge
                ? too_large()
                : std::format("the request cannot be understood ({})", httplib::status_message(response.status));
        send(response, ApiError{.status = response.status, .message = message});
    });
    http_.set_exception_handler([](const Request&, Response& response, const std::exception_ptr& thrown) {
        std::string what = "unexpected";
        try {
            std::rethrow_exception(thrown);
        } catch (const std::bad_alloc&) {
            what = "out of memory: send a shorter request";
        } catch (const std::exception& error) {
            what = std::format("unexpected: {}", error.what());
        }
        send(response, ApiError{.status = kFailed, .message = what});
    });
    http_.set_logger([this](const Request& request, const Response& response) {
        const auto& route = request.matched_route;
        const std::string name = route.empty() ? "other" : route.contains('(') ? "/v1/models/:model" : route;
        metrics_.add_request(name, response.status);
        if (response.get_header_value("Connection") == "close") HttpServer::close_after();
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
    while (load_.n_answers > 0 && std::chrono::steady_clock::now() - begin < kMax) std::this_thread::sleep_for(kOften);
    http_.end();
    if (listener_.joinable()) listener_.join();
}

void ApiServer::close() {
    closing_ = true;
    batcher_->close();
}

RequestContext ApiServer::context() const {
    return {.engine = engine_,
            .sequence = batcher_->limits().sequence,
            .sampling = options_.sampling,
            .max_choices = options_.batcher.pool.n_parallel,
            .n_ctx = batcher_->limits().n_ctx,
            .chat = options_.chat};
}

/// Checks a request before its body is read. If it is refused, sends an error response and returns false.
bool ApiServer::let_in(const Request& request, Response& response) const {
    HttpServer::understood();
    const auto checked = check_access(request, {.host = options_.host, .api_key = options_.api_key});
    if (!checked) send(response, checked.error());
    return checked.has_value();
}

/// Adds a route whose body is parsed as JSON whatever its content type is: `curl -d` labels every body as a form.
void ApiServer::post(const char* path, BodyHandler handler) {
    http_.Post(path, [this, handler = std::move(handler)](const Request& request, Response& response,
                                                          const httplib::ContentReader& read) {
        std::string body;
        const std::shared_ptr<void> end(nullptr, [&](void*) { load_.n_body_bytes -= body.size(); });
        bool fits = true;
        bool room = true;
        const bool whole = read([&](const char* data, size_t n) {
            fits = body.size() + n <= kMaxBodyBytes;
            room = load_.n_body_bytes + n <= kMaxBytesOfBodies;
            if (!fits || !room) return false;
            body.append(data, n);
            load_.n_body_bytes += n;
            return true;
        });
        if (whole) return handler(request, response, body);
        if (!room) return send(response, too_busy());
        if (!fits) response.status = kTooLarge;
        if (response.status < 0) response.status = kTimeout;
    });
}

void ApiServer::add_routes() {
    post("/v1/chat/completions", [this](const Request& request, Response& response, const std::string& body) {
        complete(request, response, body, true);
    });
    post("/v1/completions", [this](const Request& request, Response& response, const std::string& body) {
        complete(request, response, body, false);
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
    http_.Get("/v1/models", [models](const Request&, Response& response) {
        send(response, Json{{"object", "list"}, {"data", Json::array({models()})}});
    });
    http_.Get(R"(/v1/models/(.+))", [this, models](const Request& request, Response& response) {
        const auto name = request.matches[1].str();
        if (name == model_) return send(response, models());
        send(response,
             ApiError{.status = kNotFound,
                      .message = std::format("there is no model \"{}\" here; use \"{}\"", beginning_of(name), model_),
                      .code = "model_not_found"});
    });
    post("/tokenize", [this](const Request&, Response& response, const std::string& body) {
        const auto turn = take_turn();
        const auto read = read_tokenize_request(engine_, body);
        if (!read) return send(response, read.error());
        Json answer{{"tokens", read->tokens}};
        if (read->with_pieces) answer["pieces"] = token_texts(engine_, read->tokens);
        send(response, answer);
    });
    post("/detokenize", [this](const Request&, Response& response, const std::string& body) {
        const auto turn = take_turn();
        const auto tokens = read_detokenize_request(engine_, body);
        if (!tokens) return send(response, tokens.error());
        std::string text;
        for (const Token token : *tokens) text += engine_.piece(token, true);
        send(response, Json{{"content", to_utf8(text)}});
    });
    http_.Get("/health", [this](const Request&, Response& response) {
        if (closing_) return send(response, ApiError{.status = kUnavailable, .message = "the server is being stopped"});
        send(response, Json{{"status", "ok"}});
    });
    http_.Get("/metrics", [this](const Request&, Response& response) {
        response.set_content(metrics_.text(batcher_->report()), "text/plain; version=0.0.4");
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

/// Waits until fewer than kMaxPrepared bodies are being parsed, because each takes many times its size in memory. The
/// turn ends when the result is destroyed.
std::shared_ptr<void> ApiServer::take_turn() {
    load_.preparing.acquire();
    return {nullptr, [this](void*) { load_.preparing.release(); }};
}

void ApiServer::complete(const Request& request, Response& response, const std::string& body, bool chat) {
    const auto received = std::chrono::steady_clock::now();
    if (const auto busy = batcher_->refusal()) return send(response, error_of(*busy, chat));
    auto read = prepare(body, chat);
    if (!read) return send(response, read.error());
    unknown_fields_.note(read->unknown);
    read->generation.client = request.remote_addr;
    auto generation = batcher_->submit(read->generation);
    if (!generation) return send(response, error_of(generation.error(), chat));
    if (const auto ignored = not_enforced(*read); !ignored.empty()) response.set_header("X-Cake-Not-Enforced", ignored);
    const bool stream = read->stream;
    auto made = std::make_unique<Answer>(engine_, std::move(*read), model_, std::move(*generation), metrics_, received);
    load_.n_answers++;
    const std::shared_ptr<Answer> answer(made.release(), [this](Answer* done) {
        delete done;
        load_.n_answers--;
    });
    if (stream) return send_stream(request, response, answer);
    while (!answer->is_done() && !HttpServer::client_has_gone()) answer->wait(kLook);
    if (answer->error()) return send(response, *answer->error());
    if (!answer->is_done())
        return send(response, ApiError{.message = "the connection ended before the answer was complete"});
    send(response, answer->whole());
}

ApiResult<CompletionRequest> ApiServer::prepare(const std::string& body, bool chat) {
    const auto turn = take_turn();
    auto read = chat ? read_chat_request(context(), body) : read_text_request(context(), body);
    if (read) read->generation.id = new_id(chat);
    return read;
}

void ApiServer::send_stream(const Request& request, Response& response, const std::shared_ptr<Answer>& answer) {
    response.set_header("Cache-Control", "no-store");
    response.set_header("X-Accel-Buffering", "no");
    const auto provide = [answer, begun = false](size_t, httplib::DataSink& sink) mutable {
        std::string text;
        const auto add = [&](const auto& chunks) {
            for (const auto& chunk : chunks) text += event(text_of(chunk));
        };
        if (!begun) add(answer->opening());
        begun = true;
        const auto since = std::chrono::steady_clock::now();
        while (text.empty() && !answer->is_done()) {
            if (HttpServer::client_has_gone()) return false;
            if (answer->wait(kLook)) add(answer->chunks());
            if (std::chrono::steady_clock::now() - since > kSilence) text += ": nothing yet\n\n";
        }
        while (!answer->is_done() && answer->wait(std::chrono::milliseconds(0))) add(answer->chunks());
        if (answer->is_done()) {
            add(answer->chunks());
            if (answer->error())
                text += event(to_json(*answer->error()));
            else if (const auto closing = answer->closing())
                text += event(text_of(*closing));
            text += event("[DONE]");
        }
        if (!sink.write(text.data(), text.size())) return false;
        if (answer->is_done()) sink.done();
        return true;
    };
    // HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
    if (request.version == "HTTP/1.0")
        response.set_content_provider(kEvents, provide);
    else
        response.set_chunked_content_provider(kEvents, provide);
}

}  // namespace cake::server
