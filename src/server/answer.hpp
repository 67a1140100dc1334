#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cake/batcher.hpp"
#include "server/api_error.hpp"
#include "server/metrics.hpp"
#include "server/request.hpp"
#include "text/answer_text.hpp"
#include "text/reply_reader.hpp"

namespace cake::server {

/// Why one of the answers ended.
enum class Ending { stop, length, tool_calls };

/// One of the answers to a request (`n` of the OpenAI API).
struct Choice {
    std::string content;
    std::string reasoning;
    std::vector<ToolCall> calls;    // each with an ID
    std::vector<ReplyPart> fresh;   // parts that were added since the writer took them
    std::vector<TokenDrawn> drawn;  // all tokens, if their probabilities are reported
    std::vector<size_t> offsets;    // [drawn.size()] number of characters of the content before each token
    std::optional<Ending> ending;
    std::string stopped_by;  // the stop string that ended it, if one did
};

/// Collects the answers to one request from the batcher's events. Its destructor cancels the request.
class Answer {
  public:
    Answer(const Engine& engine, CompletionRequest request, std::string model, std::shared_ptr<Generation> generation,
           Metrics& metrics, std::chrono::steady_clock::time_point received);
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { generation_->cancel(); }

    /// Waits for the next event, at most for `most`, and processes it. Returns false if there was none.
    bool wait(std::chrono::milliseconds most);
    bool is_done() const;
    const std::optional<ApiError>& error() const { return error_; }

    const Engine& engine() const { return engine_; }
    const CompletionRequest& request() const { return request_; }
    const std::string& model() const { return model_; }
    int64_t created() const { return created_; }  // seconds since 1970
    const std::vector<Choice>& choices() const { return choices_; }
    /// The parts that were added to a choice since the last call.
    std::vector<ReplyPart> take_fresh(size_t choice);
    int64_t n_prompt() const { return std::ssize(request_.generation.prompt); }
    int64_t n_cached() const { return n_cached_; }
    int64_t n_drawn() const { return n_drawn_; }

  private:
    /// How the text of a choice is read.
    struct Reading {
        AnswerText text;
        ReplyReader reader;
        std::chrono::steady_clock::time_point last;
        bool begun = false;
    };

    void take(const TokenDrawn& drawn, std::chrono::steady_clock::time_point when);
    void take(const ChoiceEnded& ended);
    void add(Choice& choice, std::vector<ReplyPart> parts);
    void end(size_t choice, Ending ending);
    std::string piece(const ReplyReader& reader, Token token) const;

    Engine engine_;
    CompletionRequest request_;
    std::string model_;
    std::shared_ptr<Generation> generation_;
    Metrics& metrics_;
    std::chrono::steady_clock::time_point received_;
    int64_t created_;
    std::vector<Choice> choices_;
    std::vector<Reading> readings_;  // [choices_.size()]
    int64_t n_drawn_ = 0;
    int64_t n_cached_ = 0;
    std::optional<ApiError> error_;
};

}  // namespace cake::server
