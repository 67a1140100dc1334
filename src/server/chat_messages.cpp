#include "server/chat_messages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "server/tool_json.hpp"
#include "text/bounded_json.hpp"
#include "text/json_text.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

constexpr size_t kMaxMessages = 10'000;

class MessageReader {
  public:
    explicit MessageReader(Body& body) : body_(body) {}

    std::vector<ChatMessage> read(const Json& list) {
        std::vector<ChatMessage> messages;
        for (; index_ < list.size() && body_.good(); index_++) messages.push_back(read_message(list[index_]));
        return messages;
    }

  private:
    void wrong(std::string_view what) { body_.wrong("messages", fmt::format("messages[{}]{}", index_, what)); }

    ChatMessage read_message(const Json& message) {
        ChatMessage read;
        if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
            wrong(" must be an object with a role and a content");
            return read;
        }
        read.role = message["role"].get<std::string>();
        if (read.role == "developer") read.role = "system";
        if (read.role == "function") read.role = "tool";
        if (read.role != "system" && read.role != "user" && read.role != "assistant" && read.role != "tool") {
            wrong(fmt::format(".role \"{}\" is not supported; system, developer, user, assistant and tool are",
                              beginning_of(read.role)));
            return read;
        }
        read.content = read_content(message, read.role);
        const Json fields = read_fields(message, read.role);
        if (!fields.empty()) read.fields = json_text(fields);
        return read;
    }

    std::string read_content(const Json& message, const std::string& role) {
        std::string text;
        const auto content = message.find("content");
        const bool has_none = content == message.end() || content->is_null();
        if (!has_none && content->is_string()) {
            text = content->get<std::string>();
        } else if (!has_none && content->is_array()) {
            for (const auto& part : *content) {
                const auto type = part.is_object() ? part.value("type", Json()) : Json();
                const char* name = type == "refusal" ? "refusal" : "text";
                const bool is_text =
                    (type == "text" || type == "refusal") && part.contains(name) && part[name].is_string();
                if (!is_text) {
                    wrong(".content may only contain parts of the type \"text\"");
                    return text;
                }
                text += part[name].get<std::string>();
            }
        } else if (!has_none || (role != "assistant" && role != "tool")) {
            wrong(".content must be a string, or an array of text parts");
        }
        std::ranges::replace(text, '\0', '?');  // a zero byte would cut off the message in the chat template
        return text;
    }

    /// The other fields that a template may read.
    Json read_fields(const Json& message, const std::string& role) {
        Json fields = Json::object();
        const auto take_text = [&](const char* name, const char* from) {
            const auto value = message.find(from);
            if (value != message.end() && value->is_string()) fields[name] = *value;
        };
        if (role == "assistant") {
            // What other servers call reasoning_content.
            for (const char* other : {"reasoning", "reasoning_text", "reasoning_content"})
                take_text("reasoning_content", other);
            const auto calls = message.find("tool_calls");
            if (calls != message.end() && !calls->is_null() && !calls->empty())
                fields["tool_calls"] = read_calls(*calls);
        }
        if (role == "tool") {
            take_text("name", "name");
            take_text("tool_call_id", "tool_call_id");
            const auto id = fields.find("tool_call_id");
            const auto called = id == fields.end() ? names_.end() : names_.find(id->get<std::string>());
            if (called != names_.end() && !fields.contains("name")) fields["name"] = called->second;
        }
        return fields;
    }

    Json read_calls(const Json& calls) {
        Json read = Json::array();
        if (!calls.is_array()) {
            wrong(".tool_calls must be an array");
            return read;
        }
        for (size_t i = 0; i < calls.size(); i++) {
            const auto& call = calls[i];
            const auto function = call.is_object() ? call.value("function", Json()) : Json();
            const auto name = function.is_object() ? function.value("name", Json()) : Json();
            if (!name.is_string()) {
                wrong(fmt::format(".tool_calls[{}] must be an object with a function that has a name", i));
                return read;
            }
            Json arguments = function.value("arguments", Json());
            // Templates write the arguments as JSON, which would quote a text once more.
            if (const auto* text = arguments.get_ptr<const std::string*>()) {
                constexpr int kMaxDepth = 48;
                auto parsed = parse_bounded<Json>(text->empty() ? "{}" : *text, kMaxDepth);
                if (parsed && parsed->is_object()) arguments = std::move(*parsed);
            } else if (arguments.is_null()) {
                arguments = Json::object();
            }
            const auto id = call.value("id", Json());
            if (id.is_string()) names_[id.get<std::string>()] = name.get<std::string>();
            read.push_back(call_json(id.is_string() ? id : Json(""), name, std::move(arguments)));
        }
        return read;
    }

    Body& body_;
    size_t index_ = 0;                          // number of the message
    std::map<std::string, std::string> names_;  // names of tools, by the IDs of calls
};

}  // namespace

std::vector<ChatMessage> read_messages(Body& body) {
    const Json* list = body.find("messages");
    if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxMessages) {
        body.wrong("messages", fmt::format("messages must be an array of 1 to {} messages", kMaxMessages));
        return {};
    }
    return MessageReader(body).read(*list);
}

bool is_system(const ChatMessage& message) {
    return message.role == "system" || message.role == "developer";
}

}  // namespace cake::server
