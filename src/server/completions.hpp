#pragma once

#include <atomic>
#include <expected>
#include <memory>
#include <string>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/answer.hpp"
#include "server/answer_writer.hpp"
#include "server/connection.hpp"
#include "server/document_shelf.hpp"
#include "server/metrics.hpp"
#include "server/request.hpp"
#include "server/request_log.hpp"
#include "server/response_store.hpp"
#include "server/turns.hpp"
#include "server/unknown_fields.hpp"

namespace cake::server {

enum class Api { chat, text, native, infill, messages, responses };

/// What requests get that leave it open.
struct CompletionDefaults {
    ChatOptions chat{};
    SamplingOptions sampling{};
    ReasoningOptions reasoning{};
    bool has_keys = false;               // clients are told apart by their API keys, not by their addresses
    std::vector<std::string> proxies{};  // addresses of proxies that say for whom they ask
    std::string documents_path{};        // folder of the documents that requests may name; empty: none
};

/// Tells clients apart whose sequences must not be mixed: by key, by address behind a proxy, and by what the request
/// itself says (read_cache_salt()).
std::string whole_salt(const httplib::Request& request, const std::vector<std::string>& proxies, const Json& stated);

/// Answers the requests that generate text, in the format of each API.
class Completions {
  public:
    Completions(const Engine& engine, Batcher& batcher, std::string model, CompletionDefaults defaults,
                Metrics& metrics, Turns& turns, const RequestLog& request_log, const LogFunction& log);

    void answer(Api api, const httplib::Request& request, httplib::Response& response, const std::string& body);
    /// Answers with the number of tokens of a request of the Messages API.
    void count_tokens(const httplib::Request& request, httplib::Response& response, const std::string& body);
    /// Answers with the prompt of a chat request.
    void apply_template(const httplib::Request& request, httplib::Response& response, const std::string& body);
    DocumentShelf& documents() { return documents_; }
    int n_answers() const { return n_answers_; }

  private:
    /// A request with the writer of its answer.
    struct Prepared {
        CompletionRequest request;
        std::unique_ptr<AnswerWriter> writer;
        Json messages;  // if the response is kept: the conversation before the answer
    };

    /// `key`: the API key of the request.
    ApiResult<Prepared> prepare(Api api, const std::string& body, const std::string& key = {});
    RequestContext context();
    std::expected<std::vector<std::shared_ptr<Generation>>, Refusal> submit(const CompletionRequest& request);
    void send_stream(const httplib::Request& request, httplib::Response& response,
                     const std::shared_ptr<Answer>& answer, const std::shared_ptr<AnswerWriter>& writer,
                     std::function<void(const Answer&)> done);

    Engine engine_;
    Batcher& batcher_;
    std::string model_;
    CompletionDefaults defaults_;
    ReplyStyle style_;
    ToolConstraints tool_constraints_;
    DocumentShelf documents_;
    ResponseStore responses_;
    Metrics& metrics_;
    Turns& turns_;
    const RequestLog& request_log_;
    UnknownFields unknown_fields_;
    std::atomic<int> n_answers_ = 0;
};

}  // namespace cake::server
