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
    /// The last events, after a complete answer.
    virtual std::string closing(const Answer& answer) = 0;
    /// The last events, after an error.
    virtual std::string failure(const ApiError& error) = 0;
    /// The body of an error response.
    virtual std::string error(const ApiError& error) const { return to_json(error); }
};

std::unique_ptr<AnswerWriter> make_chat_writer();
std::unique_ptr<AnswerWriter> make_text_writer();
std::unique_ptr<AnswerWriter> make_messages_writer();
/// `fields`: those of the request that the response repeats.
std::unique_ptr<AnswerWriter> make_responses_writer(Json fields);

/// JSON as a text, with U+FFFD for bytes that are not UTF-8.
std::string text_of(const Json& json);
/// A server-sent event; without a name if `name` is empty.
std::string event(std::string_view data, std::string_view name = {});

}  // namespace cake::server
