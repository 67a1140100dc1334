#include "server/properties.hpp"

#include <filesystem>
#include <variant>

#include "engine/engine_state.hpp"
#include "text/sampling_fields.hpp"

namespace cake::server {

Json sampling_json(const SamplingOptions& sampling) {
    Json json{{"seed", sampling.seed}};
    for (const auto& field : sampling_fields())
        std::visit([&](auto member) { json[field.name] = sampling.*member; }, field.member);
    return json;
}

Json sampling_json(const GenerationRequest& request) {
    auto json = sampling_json(request.sampling);
    json["n_predict"] = request.max_tokens;
    json["stop"] = request.stop;
    json["ignore_eos"] = request.ignore_eos;
    json["n_probs"] = std::max(request.n_logprobs, 0);
    json["policy"] = request.sequence.policy;
    return json;
}

Json tokenizer_json(const Engine& engine, const ChatOptions& chat) {
    const auto& vocabulary = EngineAccess::state(engine)->vocabulary;
    const auto name = [&](std::optional<Token> token) { return token ? engine.piece(*token, true) : std::string(); };
    // Of a template that libllama knows by its name, there is no source.
    std::string source = chat.template_source;
    if (source.empty() && chat.template_name.empty()) source = vocabulary.chat_template().value_or("");
    return {{"tokenizer_class", "gguf"},
            {"bos_token", name(vocabulary.first_token())},
            {"eos_token", name(vocabulary.end_token())},
            {"chat_template", source},
            {"chat_template_name", chat.template_name}};
}

Json properties_json(const Engine& engine, const BatcherLimits& limits, const SamplingOptions& sampling,
                     const ChatOptions& chat) {
    Json json{{"default_generation_settings", {{"n_ctx", limits.n_ctx}, {"params", sampling_json(sampling)}}},
              {"total_slots", limits.n_parallel},
              {"model_path", std::filesystem::path(engine.info().path).filename().string()},
              {"modalities", {{"vision", false}, {"audio", false}}},
              {"policy", limits.sequence.policy}};
    const auto* budget = limits.sequence.budget ? std::get_if<TokensPerLayer>(&*limits.sequence.budget) : nullptr;
    json["kv_budget"] = budget != nullptr ? Json(budget->tokens) : Json();
    json.update(tokenizer_json(engine, chat));
    return json;
}

Json documents_json(DocumentShelf& documents, const BatcherLimits& limits) {
    Json list = Json::array();
    for (const auto& [name, found] : documents.find_all()) {
        Json entry{{"id", name}, {"object", "document"}};
        if (!found) {
            entry["error"] = found.error().message;
        } else {
            const auto& document = **found;
            entry["n_tokens"] = document.file.n_tokens;
            entry["policy"] = document.sequence.policy;
            entry["kv_budget"] = document.file.tokens_per_layer;
            if (const auto problem = documents.problem_of(document, limits); !problem.empty()) entry["error"] = problem;
        }
        list.push_back(std::move(entry));
    }
    return {{"object", "list"}, {"data", std::move(list)}};
}

}  // namespace cake::server
