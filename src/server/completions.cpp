#include "server/completions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "engine/engine_state.hpp"
#include "server/access.hpp"
#include "server/foreign_requests.hpp"
#include "server/respond.hpp"
#include "server/tool_json.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

using httplib::Request;
using httplib::Response;

// Interval at which the server checks whether the client has closed the connection.
constexpr std::chrono::milliseconds kLook(20);
// A stream gets an event after this time without output, so that proxies and clients do not time out during a prefill.
constexpr std::chrono::seconds kSilence(10);
constexpr const char* kEvents = "text/event-stream";

ApiError error_of(const Refusal& refusal, Api api) {
    const char* const prompt = api == Api::text || api == Api::native ? "prompt" : "messages";
    switch (refusal.reason) {
        case Refusal::Reason::invalid:
            return {.status = kInvalid, .message = refusal.message};
        case Refusal::Reason::constraint:
            return {.status = kInvalid, .message = refusal.message, .param = "grammar"};
        case Refusal::Reason::budget:
            return {.status = kInvalid, .message = refusal.message, .param = "kv_budget"};
        case Refusal::Reason::too_long:
            return {.status = kInvalid, .message = refusal.message, .param = prompt, .code = "context_length_exceeded"};
        case Refusal::Reason::lost:
            return {.status = kUnavailable, .message = refusal.message, .code = "device_lost"};
        case Refusal::Reason::busy:
            break;
    }
    return {
        .status = kUnavailable, .message = refusal.message, .code = "overloaded", .retry_after = refusal.retry_after};
}

std::string new_id(Api api) {
    const char* const prefix = api == Api::chat        ? "chatcmpl-"
                               : api == Api::responses ? "resp_"
                               : api == Api::messages  ? "msg_"
                                                       : "cmpl-";
    return random_id(prefix);
}

}  // namespace

std::string whole_salt(const Request& request, const std::vector<std::string>& proxies, const Json& stated) {
    return json_text(Json{forwarded_address_of(request, proxies), key_of(request), stated});
}

namespace {

/// Number of prompts of one request that an idle server accepts.
size_t max_prompts(const BatcherLimits& limits) {
    constexpr int32_t kMax = 64;
    return static_cast<size_t>(std::clamp(limits.n_queue_of_client, 1, kMax));
}

/// Keywords of the request's schema that are ignored, as the value of a header.
std::string not_enforced(const CompletionRequest& request) {
    constexpr size_t kMaxBytes = 1000;
    std::string names;
    for (const auto& name : request.not_enforced) names += (names.empty() ? "" : ", ") + name;
    std::ranges::replace_if(names, [](char c) { return c < ' ' || c > '~'; }, '?');
    return names.substr(0, kMaxBytes);
}

/// The answer as a message of a chat completion.
Json message_of(const Choice& choice) {
    Json message{{"role", "assistant"}, {"content", choice.content}};
    if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
    for (const auto& call : choice.calls) message["tool_calls"].push_back(call_json(call));
    return message;
}

/// Notes for the log what an answer has cost so far.
void note(const Answer& answer) {
    auto& notes = RequestLog::notes();
    notes.n_prompt = answer.n_prompt();
    notes.n_cached = answer.n_cached();
    notes.n_drawn = answer.n_drawn();
}

}  // namespace

Completions::Completions(const Engine& engine, Batcher& batcher, std::string model, CompletionDefaults defaults,
                         Metrics& metrics, Turns& turns, const RequestLog& request_log, const LogFunction& log)
    : engine_(engine),
      batcher_(batcher),
      model_(std::move(model)),
      defaults_(std::move(defaults)),
      style_(reply_style_of(EngineAccess::state(engine)->vocabulary, defaults_.chat)),
      documents_(engine, defaults_.documents_path, defaults_.chat),
      metrics_(metrics),
      turns_(turns),
      request_log_(request_log),
      unknown_fields_(log) {}

RequestContext Completions::context() {
    return {.engine = engine_,
            .sequence = batcher_.limits().sequence,
            .sampling = defaults_.sampling,
            .max_choices = batcher_.limits().n_parallel,
            .n_ctx = batcher_.limits().n_ctx,
            .max_prompts = max_prompts(batcher_.limits()),
            .chat = defaults_.chat,
            .style = style_,
            .reasoning = defaults_.reasoning,
            .tool_constraints = tool_constraints_,
            .documents = documents_,
            .limits = batcher_.limits()};
}

ApiResult<Completions::Prepared> Completions::prepare(Api api, const std::string& text, const std::string& key) {
    const auto turn = turns_.take();
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    Prepared prepared;
    ApiResult<CompletionRequest> read;
    switch (api) {
        case Api::chat:
            read = read_chat_request(context(), std::move(*body));
            prepared.writer = make_chat_writer();
            break;
        case Api::text:
            read = read_text_request(context(), std::move(*body));
            prepared.writer = make_text_writer();
            break;
        case Api::native:
            read = read_native_request(context(), std::move(*body));
            prepared.writer = make_native_writer();
            break;
        case Api::infill:
            read = read_infill_request(context(), std::move(*body));
            prepared.writer = make_native_writer();
            break;
        case Api::messages: {
            auto chat = chat_of_messages(body->json());
            if (!chat) return std::unexpected(chat.error());
            read = read_chat_request(context(), Body(std::move(*chat)));
            prepared.writer = make_messages_writer();
            break;
        }
        case Api::responses: {
            auto request = chat_of_responses(body->json(), responses_, key);
            if (!request) return std::unexpected(request.error());
            read = read_chat_request(context(), Body(std::move(request->chat)));
            prepared.writer = make_responses_writer(std::move(request->fields));
            if (request->is_kept) prepared.messages = std::move(request->messages);
            break;
        }
    }
    if (!read) return std::unexpected(read.error());
    prepared.request = std::move(*read);
    prepared.request.generation.id = new_id(api);
    return prepared;
}

void Completions::answer(Api api, const Request& request, Response& response, const std::string& body) {
    const auto received = std::chrono::steady_clock::now();
    if (const auto busy = batcher_.refusal()) return send(response, error_of(*busy, api), request.path);
    const auto key = key_of(request);
    auto prepared = prepare(api, body, key);
    if (!prepared) return send(response, prepared.error(), request.path);
    auto& read = prepared->request;
    unknown_fields_.note(read.unknown);
    read.generation.client = defaults_.has_keys ? key : address_of(request, defaults_.proxies);
    read.generation.cache_salt = whole_salt(request, defaults_.proxies, read.cache_salt);
    auto generations = submit(read);
    if (!generations) return send(response, error_of(generations.error(), api), request.path);
    if (const auto ignored = not_enforced(read); !ignored.empty()) response.set_header("X-Cake-Not-Enforced", ignored);
    const bool stream = read.stream;
    auto made = std::make_unique<Answer>(engine_, std::move(read), model_, std::move(*generations), metrics_, received);
    n_answers_++;
    const std::shared_ptr<Answer> answer(made.release(), [this](Answer* done) {
        delete done;
        n_answers_--;
    });
    note(*answer);
    const auto keep = [this, key, messages = std::move(prepared->messages)](const Answer& done) {
        if (messages.is_null()) return;
        auto all = messages;
        all.push_back(message_of(done.choices().front()));
        responses_.put(done.request().generation.id, key, all);
    };
    const std::shared_ptr<AnswerWriter> writer = std::move(prepared->writer);
    if (stream) return send_stream(request, response, answer, writer, keep);
    const bool may_be_tried = request.version != "HTTP/1.0";  // which has no interim responses
    while (!answer->is_done() && !HttpServer::client_has_gone()) {
        answer->wait(kLook);
        if (!HttpServer::must_try_client()) continue;
        if (!may_be_tried) break;
        HttpServer::try_client();
    }
    if (answer->error()) return send(response, *answer->error(), request.path);
    if (!answer->is_done())
        return send(response, ApiError{.message = "the connection ended before the answer was complete"}, request.path);
    note(*answer);
    keep(*answer);
    send(response, writer->whole(*answer));
}

/// Submits a generation for each prompt: all of them, or none if one is refused.
std::expected<std::vector<std::shared_ptr<Generation>>, Refusal> Completions::submit(const CompletionRequest& request) {
    std::vector<std::shared_ptr<Generation>> generations;
    for (const auto& prompt : request.prompts) {
        auto generation = request.generation;
        generation.prompt = prompt.tokens;
        if (!generations.empty()) generation.id += fmt::format("-{}", generations.size());
        auto submitted = batcher_.submit(std::move(generation));
        if (!submitted) {
            for (const auto& earlier : generations) earlier->cancel();
            return std::unexpected(submitted.error());
        }
        generations.push_back(std::move(*submitted));
    }
    return generations;
}

void Completions::count_tokens(const Request& request, Response& response, const std::string& body) {
    const auto prepared = prepare(Api::messages, body);
    if (!prepared) return send(response, prepared.error(), request.path);
    send(response, Json{{"input_tokens", prepared->request.prompts.front().tokens.size()}});
}

void Completions::apply_template(const Request& request, Response& response, const std::string& body) {
    const auto prepared = prepare(Api::chat, body);
    if (!prepared) return send(response, prepared.error(), request.path);
    std::string text;
    for (const Token token : prepared->request.prompts.front().tokens) text += engine_.piece(token, true);
    send(response, Json{{"prompt", text}});
}

void Completions::send_stream(const Request& request, Response& response, const std::shared_ptr<Answer>& answer,
                              const std::shared_ptr<AnswerWriter>& writer, std::function<void(const Answer&)> done) {
    response.set_header("Cache-Control", "no-store");
    response.set_header("X-Accel-Buffering", "no");
    const auto provide = [answer, writer, done = std::move(done), begun = false](size_t,
                                                                                 httplib::DataSink& sink) mutable {
        std::string text;
        if (!begun) text += writer->opening(*answer);
        begun = true;
        const auto since = std::chrono::steady_clock::now();
        while (text.empty() && !answer->is_done()) {
            if (HttpServer::client_has_gone()) return false;
            if (answer->wait(kLook)) text += writer->news(*answer);
            if (HttpServer::must_try_client()) text += ": do you still listen?\n\n";
            if (text.empty() && std::chrono::steady_clock::now() - since > kSilence)
                text += writer->keep_alive(*answer);
        }
        while (!answer->is_done() && answer->wait(std::chrono::milliseconds(0))) text += writer->news(*answer);
        if (answer->is_done()) {
            text += writer->news(*answer);
            if (!answer->error()) done(*answer);
            text += answer->error() ? writer->failure(*answer->error()) : writer->closing(*answer);
        }
        if (!sink.write(text.data(), text.size())) return false;
        if (answer->is_done()) sink.done();
        return true;
    };
    RequestLog::notes().is_stream = true;
    const auto end = [this, answer, method = request.method, path = request.path](bool /*success*/) {
        const auto error = answer->error()     ? answer->error()->message
                           : answer->is_done() ? std::string()
                                               : std::string("the client closed the connection");
        note(*answer);
        request_log_.write(method, path, kGood, error);
        RequestLog::notes() = {};
    };
    // HTTP/1.0 has no chunks: the end of the connection is the end of the answer.
    if (request.version == "HTTP/1.0")
        response.set_content_provider(kEvents, provide, end);
    else
        response.set_chunked_content_provider(kEvents, provide, end);
}

}  // namespace cake::server
