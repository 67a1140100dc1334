#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/body.hpp"
#include "server/metrics.hpp"
#include "server/request.hpp"
#include "serving/batcher.hpp"
#include "text/answer_text.hpp"

namespace cake::server {

/// The answers to one request, as the batcher's events make them, in the shapes of the OpenAI API.
class Answer {
  public:
    Answer(const Engine& engine, CompletionRequest request, std::string model, std::shared_ptr<Generation> generation,
           Metrics& metrics, std::chrono::steady_clock::time_point received);
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { generation_->cancel(); }

    /// Takes the next event in; false where none has come within `most`.
    bool wait(std::chrono::milliseconds most);
    bool is_done() const;
    const std::optional<ApiError>& error() const { return error_; }

    /// The whole answer, when it is done.
    Json whole() const;
    /// What a stream sends first: a chunk for each choice.
    std::vector<Json> opening() const;
    /// What is new since it was last asked, as chunks of a stream.
    std::vector<Json> chunks();
    /// The chunk with the usage, where it was asked for.
    std::optional<Json> closing() const;

  private:
    struct Choice {
        AnswerText text;
        std::string said;
        size_t n_bytes_sent = 0;        // of it, to a stream
        std::vector<TokenDrawn> drawn;  // tokens, where their probabilities are told
        std::vector<size_t> offsets;    // characters before each of them
        size_t n_sent = 0;              // of them
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
