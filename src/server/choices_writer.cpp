
#include "server/answer_writer.hpp"
#include "server/logprobs.hpp"
#include "server/tool_json.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

const char* name_of(Ending ending) {
    switch (ending) {
        case Ending::stop:
            return "stop";
        case Ending::length:
            return "length";
        case Ending::tool_calls:
            return "tool_calls";
    }
    return "stop";
}

Json finish_reason(const Choice& choice) {
    return choice.ending ? Json(name_of(*choice.ending)) : Json();
}

Json usage_of(const Answer& answer) {
    return {{"prompt_tokens", answer.n_prompt()},
            {"completion_tokens", answer.n_drawn()},
            {"total_tokens", answer.n_prompt() + answer.n_drawn()},
            {"prompt_tokens_details", {{"cached_tokens", answer.n_cached()}}}};
}

/// What the answers of OpenAI's two older APIs have in common.
class ChoicesWriter : public AnswerWriter {
  public:
    Json whole(const Answer& answer) override {
        auto body = shape(answer, whole_object());
        for (size_t i = 0; i < answer.choices().size(); i++) {
            const auto& choice = answer.choices()[i];
            Json written{{"index", i}};
            write(written, choice);
            written["logprobs"] = logprobs(answer, choice, 0);
            written["finish_reason"] = finish_reason(choice);
            body["choices"].push_back(std::move(written));
        }
        body["usage"] = usage_of(answer);
        body["timings"] = timings_of(answer);
        return body;
    }

    std::string news(Answer& answer) override {
        std::string events;
        sent_.resize(answer.choices().size());
        for (size_t i = 0; i < answer.choices().size(); i++) {
            const auto& choice = answer.choices()[i];
            auto& sent = sent_[i];
            const bool finishes = choice.ending && !sent.ending;
            for (const auto& part : answer.take_fresh(i))
                for (const auto& delta : deltas(part, sent.n_calls)) events += chunk(answer, i, delta, false);
            if (finishes && sent.n_drawn < choice.drawn.size()) events += chunk(answer, i, empty_delta(), false);
            if (finishes) events += chunk(answer, i, empty_delta(), true);
            sent.ending = sent.ending || finishes;
        }
        return events;
    }

    std::string keep_alive(const Answer& answer) override {
        auto body = shape(answer, chunk_object());
        Json written{{"index", 0}};
        written.update(empty_delta());
        written.update(Json{{"logprobs", nullptr}, {"finish_reason", nullptr}});
        body["choices"].push_back(std::move(written));
        return event(json_text(body));
    }

    std::string closing(const Answer& answer) override {
        std::string events;
        if (answer.request().include_usage) {
            auto last = shape(answer, chunk_object());
            last["usage"] = usage_of(answer);
            last["timings"] = timings_of(answer);
            events += event(json_text(last));
        }
        return events + event("[DONE]");
    }

    std::string failure(const ApiError& error) override { return event(to_json(error)) + event("[DONE]"); }

  protected:
    virtual const char* whole_object() const = 0;
    virtual const char* chunk_object() const = 0;
    virtual void write(Json& written, const Choice& choice) const = 0;
    virtual Json logprobs(const Answer& answer, const Choice& choice, size_t first) const = 0;
    /// The fields of the chunks for a part. `n_calls`: calls sent so far.
    virtual std::vector<Json> deltas(const ReplyPart& part, size_t& n_calls) const = 0;
    virtual Json empty_delta() const = 0;

    Json shape(const Answer& answer, const char* object) const {
        const auto& request = answer.request();
        Json shape{{"id", request.generation.id},
                   {"object", object},
                   {"created", answer.created()},
                   {"model", answer.model()},
                   {"choices", Json::array()}};
        if (request.stream && request.include_usage) shape["usage"] = nullptr;  // closing() sets it in the last chunk
        return shape;
    }

    std::string chunk(const Answer& answer, size_t i, const Json& delta, bool is_last) {
        const auto& choice = answer.choices()[i];
        auto& n_sent = sent_[i].n_drawn;
        auto body = shape(answer, chunk_object());
        Json written{{"index", i}};
        written.update(delta);
        written["logprobs"] = n_sent < choice.drawn.size() ? logprobs(answer, choice, n_sent) : Json();
        written["finish_reason"] = is_last ? finish_reason(choice) : Json();
        n_sent = choice.drawn.size();
        if (is_last || answer.request().timings_per_token) body["timings"] = timings_of(answer);
        body["choices"].push_back(std::move(written));
        return event(json_text(body));
    }

  private:
    struct Sent {
        size_t n_drawn = 0;  // tokens whose probabilities were sent
        size_t n_calls = 0;
        bool ending = false;
    };
    std::vector<Sent> sent_;  // for each choice
};

class ChatWriter final : public ChoicesWriter {
  public:
    std::string opening(const Answer& answer) override {
        std::string events;
        for (size_t i = 0; i < answer.choices().size(); i++) {
            auto body = shape(answer, chunk_object());
            body["choices"].push_back({{"index", i},
                                       {"delta", {{"role", "assistant"}, {"content", ""}}},
                                       {"logprobs", nullptr},
                                       {"finish_reason", nullptr}});
            events += event(json_text(body));
        }
        return events;
    }

  private:
    const char* whole_object() const override { return "chat.completion"; }
    const char* chunk_object() const override { return "chat.completion.chunk"; }

    void write(Json& written, const Choice& choice) const override {
        Json message{{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
        if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
        if (!choice.calls.empty()) {
            if (choice.content.empty()) message["content"] = nullptr;
            for (const auto& call : choice.calls) message["tool_calls"].push_back(call_json(call));
        }
        written["message"] = std::move(message);
    }

    Json logprobs(const Answer& answer, const Choice& choice, size_t first) const override {
        return answer.request().generation.n_logprobs < 0 ? Json() : chat_logprobs(answer, choice, first);
    }

    std::vector<Json> deltas(const ReplyPart& part, size_t& n_calls) const override {
        const auto delta = [](Json fields) { return Json{{"delta", std::move(fields)}}; };
        switch (part.kind) {
            case ReplyPart::Kind::content:
                return {delta({{"content", part.text}})};
            case ReplyPart::Kind::reasoning:
                return {delta({{"reasoning_content", part.text}})};
            case ReplyPart::Kind::call:
                break;
        }
        const size_t index = n_calls++;
        const auto call = [&](Json fields) {
            Json list = Json::array();
            list.push_back(std::move(fields));
            return delta({{"tool_calls", std::move(list)}});
        };
        return {call({{"index", index},
                      {"id", part.call.id},
                      {"type", "function"},
                      {"function", {{"name", part.call.name}, {"arguments", ""}}}}),
                call({{"index", index}, {"function", {{"arguments", part.call.arguments}}}})};
    }

    Json empty_delta() const override { return {{"delta", Json::object()}}; }
};

class TextWriter final : public ChoicesWriter {
  public:
    std::string opening(const Answer& /*answer*/) override { return {}; }

  private:
    const char* whole_object() const override { return "text_completion"; }
    const char* chunk_object() const override { return "text_completion"; }
    void write(Json& written, const Choice& choice) const override { written["text"] = choice.content; }

    Json logprobs(const Answer& answer, const Choice& choice, size_t first) const override {
        return answer.request().generation.n_logprobs < 0 ? Json() : text_logprobs(answer, choice, first);
    }

    std::vector<Json> deltas(const ReplyPart& part, size_t& /*n_calls*/) const override {
        return {Json{{"text", part.text}}};
    }

    Json empty_delta() const override { return {{"text", ""}}; }
};

}  // namespace

std::unique_ptr<AnswerWriter> make_chat_writer() {
    return std::make_unique<ChatWriter>();
}

std::unique_ptr<AnswerWriter> make_text_writer() {
    return std::make_unique<TextWriter>();
}

}  // namespace cake::server
