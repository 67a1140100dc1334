#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "server/answer.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Writes an answer in the format of one API: whole, or as the events of a stream.
class AnswerWriter {
  public:
    virtual ~AnswerWriter() = default;

    /// The whole answer; requires Answer::is_done().
    virtual Json whole(const Answer& answer) = 0;
    /// The first events of a stream.
    virtual std::string opening(const Answer& answer) = 0;
    /// Events with everything new since the last call.
    virtual std::string news(Answer& answer) = 0;
    /// An event without content. Clients count the time without events, and do not see comments.
    virtual std::string keep_alive(const Answer& answer) = 0;
    /// The last events, after a complete answer.
    virtual std::string closing(const Answer& answer) = 0;
    /// The last events, after an error.
    virtual std::string failure(const ApiError& error) = 0;
};

std::unique_ptr<AnswerWriter> make_chat_writer();
std::unique_ptr<AnswerWriter> make_text_writer();
/// llama.cpp's own format.
std::unique_ptr<AnswerWriter> make_native_writer();
std::unique_ptr<AnswerWriter> make_messages_writer();
/// `fields`: those of the request that the response repeats.
std::unique_ptr<AnswerWriter> make_responses_writer(Json fields);

/// The times of an answer so far, in the format of llama.cpp.
Json timings_of(const Answer& answer);
/// The body of an error response of Anthropic's API; to_json() makes that of OpenAI's.
std::string messages_error(const ApiError& error);
/// A server-sent event; without a name if `name` is empty.
std::string event(std::string_view data, std::string_view name = {});

}  // namespace cake::server
