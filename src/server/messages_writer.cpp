
#include "server/answer_writer.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

/// Anthropic's Messages API. There is one choice; its parts are numbered blocks.
class MessagesWriter final : public AnswerWriter {
  public:
    Json whole(const Answer& answer) override {
        auto message = shape(answer);
        const auto& choice = answer.choices().front();
        if (!choice.reasoning.empty())
            message["content"].push_back({{"type", "thinking"}, {"thinking", choice.reasoning}, {"signature", ""}});
        if (!choice.content.empty()) message["content"].push_back({{"type", "text"}, {"text", choice.content}});
        for (const auto& call : choice.calls) {
            auto block = call_block(call);
            block["input"] = Json::parse(call.arguments);
            message["content"].push_back(std::move(block));
        }
        message.update(ending(choice));
        message["usage"] = usage(answer);
        return message;
    }

    std::string opening(const Answer& answer) override {
        auto message = shape(answer);
        message["usage"] = usage(answer);
        return send("message_start", {{"message", std::move(message)}}) + send("ping", Json::object());
    }

    std::string news(Answer& answer) override {
        std::string events;
        for (const auto& part : answer.take_fresh(0)) {
            switch (part.kind) {
                case ReplyPart::Kind::content:
                    events += in_block("text", {{"type", "text"}, {"text", ""}});
                    events += delta({{"type", "text_delta"}, {"text", part.text}});
                    break;
                case ReplyPart::Kind::reasoning:
                    events += in_block("thinking", {{"type", "thinking"}, {"thinking", ""}, {"signature", ""}});
                    events += delta({{"type", "thinking_delta"}, {"thinking", part.text}});
                    break;
                case ReplyPart::Kind::call:
                    events += in_block("tool_use", call_block(part.call));
                    events += delta({{"type", "input_json_delta"}, {"partial_json", part.call.arguments}});
                    events += end_block();
                    break;
            }
        }
        return events;
    }

    std::string closing(const Answer& answer) override {
        auto events = end_block();
        events += send("message_delta", {{"delta", ending(answer.choices().front())}, {"usage", usage(answer)}});
        return events + send("message_stop", Json::object());
    }

    std::string keep_alive(const Answer& /*answer*/) override { return send("ping", Json::object()); }

    std::string failure(const ApiError& error) override { return event(messages_error(error), "error"); }

  private:
    static Json call_block(const ToolCall& call) {
        return {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", Json::object()}};
    }

    static Json shape(const Answer& answer) {
        return {{"id", answer.request().generation.id},
                {"type", "message"},
                {"role", "assistant"},
                {"model", answer.model()},
                {"content", Json::array()},
                {"stop_reason", nullptr},
                {"stop_sequence", nullptr}};
    }

    static Json ending(const Choice& choice) {
        const bool is_stopped = !choice.stopped_by.empty();
        const char* reason = choice.ending == Ending::length       ? "max_tokens"
                             : choice.ending == Ending::tool_calls ? "tool_use"
                             : is_stopped                          ? "stop_sequence"
                                                                   : "end_turn";
        return {{"stop_reason", reason}, {"stop_sequence", is_stopped ? Json(choice.stopped_by) : Json()}};
    }

    /// Tokens from the cache do not count as input here.
    static Json usage(const Answer& answer) {
        return {{"input_tokens", answer.n_prompt() - answer.n_cached()},
                {"cache_creation_input_tokens", 0},
                {"cache_read_input_tokens", answer.n_cached()},
                {"output_tokens", answer.n_drawn()}};
    }

    static std::string send(const char* name, const Json& fields) {
        Json data{{"type", name}};
        data.update(fields);
        return event(json_text(data), name);
    }

    /// Begins a block of a kind, unless one is open.
    std::string in_block(std::string_view kind, Json block) {
        if (kind == open_) return {};
        auto events = end_block();
        open_ = kind;
        return events + send("content_block_start", {{"index", n_blocks_}, {"content_block", std::move(block)}});
    }

    std::string delta(Json fields) const {
        return send("content_block_delta", {{"index", n_blocks_}, {"delta", std::move(fields)}});
    }

    std::string end_block() {
        if (open_.empty()) return {};
        open_ = {};
        return send("content_block_stop", {{"index", n_blocks_++}});
    }

    std::string_view open_;  // kind of the block that is open
    int64_t n_blocks_ = 0;   // number of blocks sent
};

}  // namespace

std::string messages_error(const ApiError& error) {
    const char* type = error.status == kUnauthorized  ? "authentication_error"
                       : error.status == kForbidden   ? "permission_error"
                       : error.status == kNotFound    ? "not_found_error"
                       : error.status == kTooLarge    ? "request_too_large"
                       : error.status == kUnavailable ? "overloaded_error"
                       : error.status >= kFailed      ? "api_error"
                                                      : "invalid_request_error";
    return json_text(Json{{"type", "error"}, {"error", {{"type", type}, {"message", error.message}}}});
}

std::unique_ptr<AnswerWriter> make_messages_writer() {
    return std::make_unique<MessagesWriter>();
}

}  // namespace cake::server
