#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cake/batcher.hpp"
#include "server/body.hpp"
#include "server/metrics.hpp"
#include "server/request.hpp"
#include "text/answer_text.hpp"

namespace cake::server {

/// Builds the answers to one request from the batcher's events, in the formats of the OpenAI API. Its destructor
/// cancels the request.
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

    /// The whole answer; requires is_done().
    Json whole() const;
    /// The first chunks of a stream, one for each choice.
    std::vector<Json> opening() const;
    /// Chunks of a stream with everything new since the last call.
    std::vector<Json> chunks();
    /// The last chunk, with the usage, if it was requested.
    std::optional<Json> closing() const;

  private:
    struct Choice {
        AnswerText text;
        std::string said;
        size_t n_bytes_sent = 0;        // number of bytes of `said` sent to the stream
        std::vector<TokenDrawn> drawn;  // all tokens, if their probabilities are reported
        std::vector<size_t> offsets;    // [drawn.size()] number of characters before each token
        size_t n_sent = 0;              // number of elements of `drawn` sent to the stream
        std::chrono::steady_clock::time_point last;
        bool begun = false;
        std::optional<std::string> finish_reason;
        bool finish_sent = false;
    };

    void take(const TokenDrawn& drawn, std::chrono::steady_clock::time_point when);
    void take(const ChoiceEnded& ended);
    Json shape(const char* object) const;
    Json usage() const;
    Json logprobs(const Choice& choice, size_t first) const;
    Json chat_logprobs(const Choice& choice, size_t first) const;
    Json text_logprobs(const Choice& choice, size_t first) const;

    Engine engine_;
    CompletionRequest request_;
    std::string model_;
    std::shared_ptr<Generation> generation_;
    Metrics& metrics_;
    std::chrono::steady_clock::time_point received_;
    int64_t created_;
    std::vector<Choice> choices_;
    int64_t n_drawn_ = 0;
    int64_t n_cached_ = 0;
    std::optional<ApiError> error_;
};

}  // namespace cake::server
