
#include "server/generation_fields.hpp"

#include <fmt/format.h>
#include "server/prompt_fields.hpp"
#include "server/request.hpp"

namespace cake::server {

namespace {

/// The prompts of a request to fill in the text between a prompt and its suffix.
ApiResult<std::vector<Prompt>> read_infill(Body& body, const Engine& engine, const std::string& suffix) {
    const Json* before = body.find("prompt");
    if (before == nullptr || !before->is_string())
        return invalid("prompt must be one string in a request with a suffix", "prompt");
    auto prompt = infill_prompt(engine, before->get_ref<const std::string&>(), suffix);
    if (!prompt) return std::unexpected(prompt.error());
    return std::vector{std::move(*prompt)};
}

ApiResult<std::vector<InfillFile>> read_files(Body& body) {
    std::vector<InfillFile> files;
    const Json* list = body.find("input_extra");
    if (list == nullptr) return files;
    const auto wrong =
        invalid("input_extra must be an array of objects with the strings filename and text", "input_extra");
    if (!list->is_array()) return wrong;
    for (const auto& file : *list) {
        if (!file.is_object()) return wrong;
        const auto path = file.value("filename", Json("file"));
        const auto text = file.value("text", Json());
        if (!path.is_string() || !text.is_string()) return wrong;
        files.push_back({.path = path.get<std::string>(), .text = text.get<std::string>()});
    }
    return files;
}

/// Reads what all requests of llama.cpp's own API have.
void read_native_fields(Body& body, const RequestContext& context, CompletionRequest& request) {
    body.unsupported("document", {});
    read_generation_fields(body, context, request);
    constexpr int64_t kMaxLikeliest = 100;
    request.generation.max_tokens = read_limit(body, "n_predict", context).value_or(-1);
    if (const auto n = body.integer("n_probs", 0, kMaxLikeliest); n && *n > 0)
        request.generation.n_logprobs = static_cast<int32_t>(*n);
    request.return_tokens = body.flag("return_tokens").value_or(false) || request.stream;
    request.generation.post_sampling_probs = body.flag("post_sampling_probs").value_or(false);
}

/// The probabilities of a prompt take about a kilobyte for each token.
ApiResult<void> check_reported(const std::vector<Prompt>& prompts, const GenerationRequest& generation) {
    constexpr size_t kMaxReported = size_t{1} << 17U;
    size_t n = 0;
    for (const auto& prompt : prompts) n += prompt.tokens.size() * static_cast<size_t>(generation.n_choices);
    if (!generation.prompt_logprobs || n <= kMaxReported) return {};
    return invalid(fmt::format("echo with logprobs would report {} tokens, and {} are possible: send fewer or shorter "
                               "prompts at once",
                               n, kMaxReported),
                   "echo");
}

ApiResult<CompletionRequest> finish(Body& body, ApiResult<std::vector<Prompt>> prompts, CompletionRequest request) {
    if (auto read = body.finish(); !read) return std::unexpected(read.error());
    if (!prompts) return std::unexpected(prompts.error());
    if (auto few = check_reported(*prompts, request.generation); !few) return std::unexpected(few.error());
    request.prompts = std::move(*prompts);
    request.unknown = body.unknown();
    return request;
}

}  // namespace

ApiResult<CompletionRequest> read_text_request(const RequestContext& context, Body body) {
    CompletionRequest request;
    body.unsupported("document", {});
    read_generation_fields(body, context, request);
    auto& generation = request.generation;
    constexpr int64_t kUsualLimit = 16;
    constexpr int64_t kMaxLikeliest = 5;
    const auto limit = read_limit(body, "max_tokens", context);
    const auto llama_limit = read_limit(body, "n_predict", context);
    generation.max_tokens = limit.value_or(llama_limit.value_or(kUsualLimit));
    if (const auto n = body.integer("logprobs", 0, kMaxLikeliest)) generation.n_logprobs = static_cast<int32_t>(*n);
    request.echo = body.flag("echo").value_or(false);
    generation.prompt_logprobs = request.echo && generation.n_logprobs >= 0;
    if (const auto best_of = body.integer("best_of", 1, context.max_choices);
        best_of && *best_of != generation.n_choices)
        body.wrong("best_of", "best_of other than n is not supported: leave it out");
    const auto suffix = body.text("suffix", kMaxPromptBytes).value_or("");
    if (!suffix.empty() && request.echo)
        body.wrong("echo", "echo is not supported in a request with a suffix: leave one out");
    auto prompts =
        suffix.empty() ? read_prompts(body, context, request.echo) : read_infill(body, context.engine, suffix);
    return finish(body, std::move(prompts), std::move(request));
}

ApiResult<CompletionRequest> read_native_request(const RequestContext& context, Body body) {
    CompletionRequest request;
    read_native_fields(body, context, request);
    auto prompts = read_prompts(body, context, false);
    return finish(body, std::move(prompts), std::move(request));
}

ApiResult<CompletionRequest> read_infill_request(const RequestContext& context, Body body) {
    CompletionRequest request;
    read_native_fields(body, context, request);
    const auto before = body.text("input_prefix", kMaxPromptBytes);
    const auto behind = body.text("input_suffix", kMaxPromptBytes);
    const auto begun = body.text("prompt", kMaxPromptBytes).value_or("");
    const auto files = read_files(body);
    if (!before) body.wrong("input_prefix", "input_prefix must be a string");
    if (!behind) body.wrong("input_suffix", "input_suffix must be a string");
    if (!files) return std::unexpected(files.error());
    if (!body.good()) return finish(body, {}, std::move(request));
    auto prompt =
        infill_prompt(context.engine, before.value_or("") + begun, behind.value_or(""), *files, "input_suffix");
    if (!prompt) return std::unexpected(prompt.error());
    return finish(body, std::vector{std::move(*prompt)}, std::move(request));
}

}  // namespace cake::server
