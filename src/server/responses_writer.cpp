#include <fmt/format.h>

#include <utility>

#include "server/answer_writer.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

Json text_part(const std::string& text) {
    return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", Json::array()}};
}

/// An item of the output, which is a message, reasoning or a call.
struct Item {
    std::string kind;  // its type
    std::string id;
    std::string text;     // text or arguments
    std::string call_id;  // set if it is a call
    std::string name;

    Json json(const char* status) const {
        Json item{{"id", id}, {"type", kind}, {"status", status}};
        if (kind == "function_call") {
            item.update(Json{{"call_id", call_id}, {"name", name}, {"arguments", text}});
        } else if (kind == "reasoning") {
            item["summary"] = Json::array();
            item["content"] = Json::array({Json{{"type", "reasoning_text"}, {"text", text}}});
        } else {
            item["role"] = "assistant";
            item["content"] = Json::array({text_part(text)});
        }
        return item;
    }
};

/// OpenAI's Responses API. There is one choice; its parts are items of the output.
class ResponsesWriter final : public AnswerWriter {
  public:
    explicit ResponsesWriter(Json fields) : fields_(std::move(fields)) {}

    Json whole(const Answer& answer) override {
        const auto& choice = answer.choices().front();
        if (!choice.reasoning.empty()) new_item("reasoning", answer).text = choice.reasoning;
        if (!choice.content.empty()) new_item("message", answer).text = choice.content;
        for (const auto& call : choice.calls) new_call(call, answer);
        return response(answer, status(answer));
    }

    std::string opening(const Answer& answer) override {
        const Json begun{{"response", response(answer, "in_progress")}};
        auto events = send("response.created", begun);
        return events += send("response.in_progress", begun);
    }

    std::string news(Answer& answer) override {
        std::string events;
        for (const auto& part : answer.take_fresh(0)) {
            if (part.kind == ReplyPart::Kind::call) {
                events += end_item();
                const auto& item = new_call(part.call, answer);
                auto begun = item.json("in_progress");
                begun["arguments"] = "";
                events += send("response.output_item.added", {{"output_index", index()}, {"item", std::move(begun)}});
                events += about_item("response.function_call_arguments.delta", {{"delta", item.text}});
                is_open_ = true;
                events += end_item();
                continue;
            }
            const bool is_reasoning = part.kind == ReplyPart::Kind::reasoning;
            events += in_item(is_reasoning ? "reasoning" : "message", answer);
            items_.back().text += part.text;
            events += about_text(is_reasoning ? "response.reasoning_text.delta" : "response.output_text.delta",
                                 {{"delta", part.text}});
        }
        return events;
    }

    std::string closing(const Answer& answer) override {
        const auto* how = status(answer);
        auto events = end_item(how);
        return events += send(fmt::format("response.{}", how), {{"response", response(answer, how)}});
    }

    std::string keep_alive(const Answer& answer) override {
        return send("response.in_progress", {{"response", response(answer, "in_progress")}});
    }

    std::string failure(const ApiError& error) override {
        return send("error", {{"code", error.code.empty() ? "server_error" : error.code},
                              {"message", error.message},
                              {"param", error.param.empty() ? Json() : Json(error.param)}});
    }

  private:
    static const char* status(const Answer& answer) {
        return answer.choices().front().ending == Ending::length ? "incomplete" : "completed";
    }

    Json response(const Answer& answer, const std::string& status) const {
        Json body{{"id", answer.request().generation.id},
                  {"object", "response"},
                  {"created_at", answer.created()},
                  {"status", status},
                  {"error", nullptr},
                  {"incomplete_details", nullptr},
                  {"model", answer.model()},
                  {"output", Json::array()}};
        if (status == "incomplete") body["incomplete_details"] = {{"reason", "max_output_tokens"}};
        for (const auto& item : items_)
            body["output"].push_back(item.json(&item == &items_.back() ? status.c_str() : "completed"));
        body.update(fields_);
        body["usage"] = nullptr;
        if (status != "in_progress")
            body["usage"] = {{"input_tokens", answer.n_prompt()},
                             {"input_tokens_details", {{"cached_tokens", answer.n_cached()}}},
                             {"output_tokens", answer.n_drawn()},
                             {"output_tokens_details", {{"reasoning_tokens", 0}}},
                             {"total_tokens", answer.n_prompt() + answer.n_drawn()}};
        return body;
    }

    Item& new_item(const std::string& kind, const Answer& answer) {
        const auto& id = answer.request().generation.id;
        const char* prefix = kind == "reasoning" ? "rs" : kind == "message" ? "msg" : "fc";
        items_.push_back({.kind = kind,
                          .id = fmt::format("{}_{}_{}", prefix, items_.size(), id),
                          .text = {},
                          .call_id = {},
                          .name = {}});
        return items_.back();
    }

    const Item& new_call(const ToolCall& call, const Answer& answer) {
        auto& item = new_item("function_call", answer);
        item.text = call.arguments;
        item.call_id = call.id;
        item.name = call.name;
        return item;
    }

    size_t index() const { return items_.size() - 1; }

    std::string send(const std::string& name, const Json& fields) {
        Json data{{"type", name}, {"sequence_number", n_events_++}};
        data.update(fields);
        return event(json_text(data), name);
    }

    std::string about_item(const std::string& name, const Json& fields) {
        Json about{{"item_id", items_.back().id}, {"output_index", index()}};
        about.update(fields);
        return send(name, about);
    }

    std::string about_text(const std::string& name, const Json& fields) {
        Json about{{"content_index", 0}};
        about.update(fields);
        if (items_.back().kind == "message") about["logprobs"] = Json::array();
        return about_item(name, about);
    }

    /// Begins an item of a kind, unless one is open.
    std::string in_item(const std::string& kind, const Answer& answer) {
        if (is_open_ && items_.back().kind == kind) return {};
        auto events = end_item();
        auto begun = new_item(kind, answer).json("in_progress");
        begun["content"] = Json::array();
        is_open_ = true;
        events += send("response.output_item.added", {{"output_index", index()}, {"item", std::move(begun)}});
        if (kind == "message")
            events += about_item("response.content_part.added", {{"content_index", 0}, {"part", text_part("")}});
        return events;
    }

    std::string end_item(const char* status = "completed") {
        if (!std::exchange(is_open_, false)) return {};
        const auto& item = items_.back();
        std::string events;
        if (item.kind == "function_call") {
            events +=
                about_item("response.function_call_arguments.done", {{"name", item.name}, {"arguments", item.text}});
        } else if (item.kind == "reasoning") {
            events += about_text("response.reasoning_text.done", {{"text", item.text}});
        } else {
            events += about_text("response.output_text.done", {{"text", item.text}});
            events += about_item("response.content_part.done", {{"content_index", 0}, {"part", text_part(item.text)}});
        }
        return events += send("response.output_item.done", {{"output_index", index()}, {"item", item.json(status)}});
    }

    Json fields_;  // fields of the request for the response to repeat
    std::vector<Item> items_;
    bool is_open_ = false;  // the last item
    int64_t n_events_ = 0;
};

}  // namespace

std::unique_ptr<AnswerWriter> make_responses_writer(Json fields) {
    return std::make_unique<ResponsesWriter>(std::move(fields));
}

}  // namespace cake::server
