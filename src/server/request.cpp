#include "server/request.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <format>
#include <variant>

#include "cake/policy.hpp"
#include "cake/token_stream.hpp"
#include "server/body.hpp"
#include "server/constraint_fields.hpp"
#include "text/sampling_fields.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

constexpr size_t kMaxText = size_t{64} << 20U;

/// Reads the messages of a conversation, the input of the chat template.
std::vector<ChatMessage> read_messages(Body& body) {
    constexpr size_t kMaxMessages = 10'000;
    std::vector<ChatMessage> messages;
    const Json* list = body.find("messages");
    if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxMessages) {
        body.wrong("messages", std::format("messages must be an array of 1 to {} messages", kMaxMessages));
        return messages;
    }
    for (size_t i = 0; i < list->size(); i++) {
        const auto wrong = [&](std::string_view what) {
            body.wrong("messages", std::format("messages[{}]{}", i, what));
        };
        const Json& message = (*list)[i];
        if (!message.is_object() || !message.contains("role") || !message["role"].is_string()) {
            wrong(" must be an object with a role and a content");
            return messages;
        }
        std::string role = message["role"].get<std::string>();
        if (role == "developer") role = "system";
        if (role != "system" && role != "user" && role != "assistant") {
            wrong(std::format(".role \"{}\" is not supported; system, developer, user and assistant are",
                              beginning_of(role)));
            return messages;
        }
        for (const auto& field : message.items()) {
            const bool empty = field.value().is_null() || (field.value().is_array() && field.value().empty());
            if (field.key() == "role" || field.key() == "content" || field.key() == "name" || empty) continue;
            if (field.key() == "reasoning_content" && role == "assistant" && field.value().is_string()) continue;
            wrong(std::format(".{} is not supported: leave it out", beginning_of(field.key())));
            return messages;
        }
        ChatMessage read{.role = std::move(role), .content = {}};
        if (message.contains("reasoning_content") && message["reasoning_content"].is_string())
            read.fields = Json{{"reasoning_content", message["reasoning_content"]}}.dump();
        const auto content = message.find("content");
        if (content != message.end() && content->is_string()) {
            read.content = content->get<std::string>();
        } else if (content != message.end() && content->is_array()) {
            for (const auto& part : *content) {
                const bool text = part.is_object() && part.value("type", Json()) == "text" && part.contains("text") &&
                                  part["text"].is_string();
                if (!text) {
                    wrong(".content may only contain parts of the type \"text\"");
                    return messages;
                }
                read.content += part["text"].get<std::string>();
            }
        } else if (read.role != "assistant" || (content != message.end() && !content->is_null())) {
            wrong(".content must be a string, or an array of text parts");
            return messages;
        }
        std::ranges::replace(read.content, '\0', '?');  // a zero byte would cut off the message in the chat template
        messages.push_back(std::move(read));
    }
    return messages;
}

/// Returns the server's options with the template variables of the request, which replace those of the same name.
ChatOptions read_chat_options(Body& body, const ChatOptions& usual) {
    ChatOptions options = usual;
    const Json* variables = body.find("chat_template_kwargs");
    if (variables == nullptr) return options;
    if (!variables->is_object()) {
        body.wrong("chat_template_kwargs",
                   "chat_template_kwargs must be an object with variables for the chat template");
        return options;
    }
    Json all = usual.template_kwargs.empty() ? Json::object() : Json::parse(usual.template_kwargs, nullptr, false);
    all.update(*variables);
    options.template_kwargs = all.dump();
    return options;
}

void read_stop(Body& body, std::vector<std::string>& stop) {
    constexpr size_t kMaxStops = 16;
    constexpr size_t kMaxBytes = 256;
    const Json* value = body.find("stop");
    if (value == nullptr) return;
    const auto add = [&](const Json& text) {
        if (!text.is_string()) return false;
        stop.push_back(text.get<std::string>());
        return !stop.back().empty() && stop.back().size() <= kMaxBytes;
    };
    const bool list = value->is_array() && value->size() <= kMaxStops;
    if (list ? !std::ranges::all_of(*value, add) : !add(*value)) {
        body.wrong("stop", std::format("stop must be a string of 1 to {} bytes, or an array of up to {} of them",
                                       kMaxBytes, kMaxStops));
    }
}

void read_logit_bias(Body& body, const Engine& engine, std::vector<LogitBias>& biases) {
    constexpr size_t kMaxBiases = 1024;
    constexpr double kMaxBias = 100;
    const Json* value = body.find("logit_bias");
    if (value == nullptr) return;
    const auto wrong = [&] {
        body.wrong("logit_bias", std::format("logit_bias must map up to {} token ids below {} to numbers from {} to {}",
                                             kMaxBiases, engine.info().n_vocab, -kMaxBias, kMaxBias));
    };
    if (!value->is_object() || value->size() > kMaxBiases) return wrong();
    for (const auto& entry : value->items()) {
        const auto& key = entry.key();
        Token token = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
        const bool good = error == std::errc() && end == key.data() + key.size() && token >= 0 &&
                          token < engine.info().n_vocab && entry.value().is_number();
        if (!good) return wrong();
        const auto bias = entry.value().get<double>();
        if (!(std::abs(bias) <= kMaxBias)) return wrong();
        biases.push_back({.token = token, .bias = static_cast<float>(bias)});
    }
}

/// Folds a seed to 32 bits, so that all of its bits have an effect. The result is never the value that requests a
/// random seed.
uint32_t seed_of(int64_t seed) {
    constexpr uint32_t kRandom = 0xFFFFFFFF;
    const auto bits = static_cast<uint64_t>(seed);
    const auto folded = static_cast<uint32_t>(bits ^ (bits >> 32U));
    return folded == kRandom ? 0 : folded;
}

/// Reads the field `samplers`, the steps in their order: names, or a text with a letter for each, as llama.cpp has
/// them.
void read_samplers(Body& body, std::vector<SamplerStep>& samplers) {
    const Json* value = body.find("samplers");
    if (value == nullptr) return;
    constexpr size_t kMaxSteps = 32;
    std::vector<SamplerStep> steps;
    const auto add = [&](std::optional<SamplerStep> step) {
        if (step) steps.push_back(*step);
        return step.has_value();
    };
    const auto add_name = [&](const Json& name) {
        return name.is_string() && add(sampler_step_of(name.get_ref<const std::string&>()));
    };
    const auto add_letter = [&](char letter) { return add(sampler_step_of(letter)); };
    bool good = false;
    if (const auto* letters = value->get_ptr<const std::string*>())
        good = letters->size() <= kMaxSteps && std::ranges::all_of(*letters, add_letter);
    else if (value->is_array())
        good = value->size() <= kMaxSteps && std::ranges::all_of(*value, add_name);
    if (!good)
        return body.wrong("samplers",
                          std::format("samplers must be an array of these names: {}", sampler_step_names()));
    samplers = std::move(steps);
}

void read_dry_breakers(Body& body, std::vector<std::string>& breakers) {
    constexpr size_t kMaxBreakers = 64;
    constexpr size_t kMaxBytes = 40;
    const Json* value = body.find("dry_sequence_breakers");
    if (value == nullptr) return;
    const auto is_good = [](const Json& text) {
        return text.is_string() && !text.get_ref<const std::string&>().empty() &&
               text.get_ref<const std::string&>().size() <= kMaxBytes;
    };
    if (!value->is_array() || value->size() > kMaxBreakers || !std::ranges::all_of(*value, is_good))
        return body.wrong("dry_sequence_breakers",
                          std::format("dry_sequence_breakers must be an array of up to {} strings of 1 to {} bytes",
                                      kMaxBreakers, kMaxBytes));
    breakers = value->get<std::vector<std::string>>();
}

/// Reads a number into the member that it sets.
void read_sampling_number(Body& body, const char* name, const SamplingField& field, SamplingOptions& sampling) {
    if (const auto* member = std::get_if<float SamplingOptions::*>(&field.member)) {
        if (const auto number = body.number(name, field.least, field.most))
            sampling.** member = static_cast<float>(*number);
    } else if (const auto number =
                   body.integer(name, static_cast<int64_t>(field.least), static_cast<int64_t>(field.most))) {
        sampling.*std::get<int32_t SamplingOptions::*>(field.member) = static_cast<int32_t>(*number);
    }
}

void read_sampling(Body& body, const Engine& engine, SamplingOptions& sampling) {
    for (const auto& field : sampling_fields()) {
        read_sampling_number(body, field.name, field, sampling);
        if (field.name == std::string_view("repeat_penalty"))
            read_sampling_number(body, "repetition_penalty", field, sampling);  // vLLM's name
    }
    read_samplers(body, sampling.samplers);
    read_dry_breakers(body, sampling.dry_sequence_breakers);
    if (const auto seed = body.integer("seed", INT64_MIN, INT64_MAX)) sampling.seed = seed_of(*seed);
    read_logit_bias(body, engine, sampling.logit_bias);
}

/// Reads the fields that both kinds of requests have.
void read_common(Body& body, const RequestContext& context, CompletionRequest& request) {
    auto& generation = request.generation;
    request.stream = body.flag("stream").value_or(false);
    if (const Json* options = body.find("stream_options")) {
        const auto usage = options->is_object() ? options->value("include_usage", Json()) : Json("none");
        if (usage.is_boolean())
            request.include_usage = usage.get<bool>();
        else if (!usage.is_null())
            body.wrong("stream_options", "stream_options must be an object with include_usage, true or false");
    }
    read_stop(body, generation.stop);
    generation.sampling = context.sampling;
    read_sampling(body, context.engine, generation.sampling);
    generation.constraint = read_constraint(body);
    if (const auto n = body.integer("n", 1, context.max_choices)) generation.n_choices = static_cast<int32_t>(*n);
    generation.ignore_eos = body.flag("ignore_eos").value_or(false);
    generation.reuse = body.flag("cache_prompt").value_or(true);
    generation.sequence = context.sequence;
    constexpr size_t kMaxName = 256;
    const auto policy = body.text("policy", kMaxName);
    const auto budget = body.integer("kv_budget", 1, int64_t{1} << 31);
    if (policy && *policy != generation.sequence.policy) {
        generation.sequence.policy = *policy;
        generation.sequence.scorer = generation.sequence.allocator = {};
        if (*policy == kFullPolicy) generation.sequence.budget.reset();
    }
    if (budget) generation.sequence.budget = TokensPerLayer{*budget};
    if (body.good()) {
        if (auto valid = validate(generation.sequence); !valid)
            body.wrong(policy ? "policy" : "kv_budget", valid.error().message);
    }
    body.ignore({"model", "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
                 "prompt_cache_retention", "parallel_tool_calls", "reasoning_effort", "verbosity"});
}

/// Reads a maximum number of tokens; -1 is none.
std::optional<int64_t> read_limit(Body& body, const char* name, const RequestContext& context) {
    return body.integer(name, -1, std::max<int64_t>(context.n_ctx, int64_t{1} << 31));
}

ApiResult<std::vector<Token>> tokens_of(const Engine& engine, std::string_view text, const char* field) {
    auto tokens = TokenStream::whole(engine, text, false);
    if (!tokens) return invalid(tokens.error().message, field);
    if (tokens->empty()) return invalid("there is nothing to read: the prompt contains no tokens", field);
    return std::move(*tokens);
}

std::optional<std::vector<Token>> token_list(const Json& list, const Engine& engine) {
    std::vector<Token> tokens;
    for (const auto& item : list) {
        if (!item.is_number_unsigned()) return std::nullopt;
        const auto token = item.get<uint64_t>();
        if (token >= static_cast<uint64_t>(engine.info().n_vocab)) return std::nullopt;
        tokens.push_back(static_cast<Token>(token));
    }
    return tokens;
}

/// Reads the field `prompt`: a text, an array with one text, or an array of tokens. Returns its tokens, and its text in
/// `text` if that is not null.
ApiResult<std::vector<Token>> read_prompt(Body& body, const Engine& engine, std::string* text) {
    const Json* value = body.find("prompt");
    const Json* single = value;
    if (value != nullptr && value->is_array() && value->size() == 1 && !(*value)[0].is_number()) single = &(*value)[0];
    if (single != nullptr && single->is_string()) {
        if (text != nullptr) *text = single->get<std::string>();
        return tokens_of(engine, single->get_ref<const std::string&>(), "prompt");
    }
    if (single != nullptr && single->is_array() && !single->empty()) {
        if (auto tokens = token_list(*single, engine)) {
            if (text != nullptr)
                for (const Token token : *tokens) *text += engine.piece(token);
            return std::move(*tokens);
        }
    }
    return invalid(std::format("prompt must be one string or one array of tokens below {}", engine.info().n_vocab),
                   "prompt");
}

}  // namespace

ApiResult<CompletionRequest> read_chat_request(const RequestContext& context, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    CompletionRequest request{.chat = true};
    const auto messages = read_messages(*body);
    const auto chat = read_chat_options(*body, context.chat);
    read_common(*body, context, request);
    auto& generation = request.generation;
    const auto old_limit = read_limit(*body, "max_tokens", context);
    const auto limit = read_limit(*body, "max_completion_tokens", context);
    const auto llama_limit = read_limit(*body, "n_predict", context);
    generation.max_tokens = limit.value_or(old_limit.value_or(llama_limit.value_or(-1)));
    constexpr int64_t kMaxLikeliest = 20;
    const bool logprobs = body->flag("logprobs").value_or(false);
    const auto top = body->integer("top_logprobs", 0, kMaxLikeliest);
    if (top && !logprobs) body->wrong("top_logprobs", "top_logprobs needs logprobs to be true");
    if (logprobs) generation.n_logprobs = static_cast<int32_t>(top.value_or(0));
    body->unsupported("tools", {Json::array()});
    body->unsupported("functions", {Json::array()});
    body->unsupported("tool_choice", {"none", "auto"});
    body->unsupported("function_call", {"none", "auto"});
    body->unsupported("modalities", {Json::array({"text"})});
    body->unsupported("audio", {});
    body->unsupported("prediction", {});
    body->unsupported("web_search_options", {});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());

    auto tokens = context.engine.chat_tokens(messages, chat);
    if (!tokens) return invalid(tokens.error().message, "messages");
    if (tokens->empty()) return invalid("there is nothing to read: the prompt contains no tokens", "messages");
    generation.prompt = std::move(*tokens);
    request.unknown = body->unknown();
    return request;
}

ApiResult<CompletionRequest> read_text_request(const RequestContext& context, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    CompletionRequest request;
    read_common(*body, context, request);
    auto& generation = request.generation;
    constexpr int64_t kUsualLimit = 16;
    constexpr int64_t kMaxLikeliest = 5;
    const auto limit = read_limit(*body, "max_tokens", context);
    const auto llama_limit = read_limit(*body, "n_predict", context);
    generation.max_tokens = limit.value_or(llama_limit.value_or(kUsualLimit));
    if (const auto n = body->integer("logprobs", 0, kMaxLikeliest)) generation.n_logprobs = static_cast<int32_t>(*n);
    const bool echo = body->flag("echo").value_or(false);
    if (echo && generation.n_logprobs >= 0)
        body->wrong("echo", "echo with logprobs is not supported: the log probabilities of the prompt are not kept");
    if (const auto best_of = body->integer("best_of", 1, context.max_choices);
        best_of && *best_of != generation.n_choices)
        body->wrong("best_of", "best_of other than n is not supported: leave it out");
    body->unsupported("suffix", {""});
    auto prompt = read_prompt(*body, context.engine, echo ? &request.echo : nullptr);
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    if (!prompt) return std::unexpected(prompt.error());
    generation.prompt = std::move(*prompt);
    request.unknown = body->unknown();
    return request;
}

ApiResult<TokenizeRequest> read_tokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    if (body->find("content") == nullptr) body->wrong("content", "content must be a string");
    const auto content = body->text("content", kMaxText).value_or("");
    const bool add_special = body->flag("add_special").value_or(false);
    const bool with_pieces = body->flag("with_pieces").value_or(false);
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    auto tokens = add_special ? engine.tokenize(content) : TokenStream::whole(engine, content, true);
    if (!tokens) return invalid(tokens.error().message, "content");
    return TokenizeRequest{.tokens = std::move(*tokens), .with_pieces = with_pieces};
}

ApiResult<std::vector<Token>> read_detokenize_request(const Engine& engine, std::string_view text) {
    auto body = Body::parse(text);
    if (!body) return std::unexpected(body.error());
    const Json* list = body->find("tokens");
    auto tokens = list != nullptr && list->is_array() ? token_list(*list, engine) : std::nullopt;
    if (!tokens)
        body->wrong("tokens", std::format("tokens must be an array of tokens below {}", engine.info().n_vocab));
    body->ignore({"model"});
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    return tokens.value_or(std::vector<Token>());
}

}  // namespace cake::server
