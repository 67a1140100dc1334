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
    std::vector<TokenDrawn> drawn;  // all tokens, if they are reported; those of the prompt too if it is repeated
    std::vector<size_t> offsets;    // [drawn.size()] number of characters of the content before each token
    int64_t n_drawn = 0;
    std::optional<Ending> ending;
    std::string stopped_by;  // the stop string that ended it, if one did
};

/// Collects the answers to one request from the batcher's events. Its destructor cancels the request.
class Answer {
  public:
    /// `generations`: one for each prompt of the request.
    Answer(const Engine& engine, CompletionRequest request, std::string model,
           std::vector<std::shared_ptr<Generation>> generations, Metrics& metrics,
           std::chrono::steady_clock::time_point received);
    Answer(const Answer&) = delete;
    Answer& operator=(const Answer&) = delete;
    ~Answer() { cancel(); }

    /// Waits for the next events, at most for about `most`, and processes them. Returns false if there were none.
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
    int64_t n_prompt() const;
    int64_t n_cached() const { return progress_.n_cached; }
    int64_t n_drawn() const { return progress_.n_drawn; }
    /// Seconds from the request to the first token, and from there to the last one so far.
    double prompt_seconds() const;
    double drawing_seconds() const;

  private:
    using Time = std::chrono::steady_clock::time_point;

    struct Progress {
        int64_t n_drawn = 0;
        int64_t n_cached = 0;
        std::optional<Time> first{};  // time of the first token
        Time last{};
    };

    /// How the text of a choice is read.
    struct Reading {
        AnswerText text;
        ReplyReader reader;
        Time last;
        bool begun = false;
    };

    /// In these, `prompt` is the index of the prompt that the event is about.
    void take(const GenerationEvent& event, size_t prompt);
    void take(const PromptRead& read, size_t prompt);
    void take(const TokenDrawn& drawn, Time when, size_t prompt);
    void take(const ChoiceEnded& ended, size_t prompt);
    void echo(const Prompt& prompt, const std::vector<TokenDrawn>& tokens, Choice& choice) const;
    void cancel();
    bool has_ended(size_t prompt) const;
    size_t n_choices() const { return static_cast<size_t>(request_.generation.n_choices); }
    void add(Choice& choice, std::vector<ReplyPart> parts);
    void end(size_t choice, Ending ending);
    std::string piece(const ReplyReader& reader, Token token) const;

    Engine engine_;
    CompletionRequest request_;
    std::string model_;
    std::vector<std::shared_ptr<Generation>> generations_;  // one for each prompt
    Metrics& metrics_;
    Time received_;
    int64_t created_;
    std::vector<Choice> choices_;    // those of the first prompt first
    std::vector<Reading> readings_;  // [choices_.size()]
    Progress progress_;
    std::optional<ApiError> error_;
};

}  // namespace cake::server
