// Passes random bodies to all request parsers and checks each outcome: either an error in the shape of the API, or a
// request within all limits. Exits with code 1 at the first body whose outcome is neither.

#include <fmt/format.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <span>

#include "cake/conversation.hpp"
#include "engine/engine_state.hpp"
#include "fuzz/body_maker.hpp"
#include "fuzz/loop.hpp"
#include "server/document_shelf.hpp"
#include "server/foreign_requests.hpp"
#include "server/request.hpp"
#include "text/answer_text.hpp"
#include "text/sampler.hpp"
#include "text/utf8.hpp"

namespace {

using namespace cake;
using namespace cake::server;

struct Fuzz {
    const Engine& engine;
    RequestContext context;
    std::map<std::string, int64_t> counts;
    std::vector<float> logits;  // random, twice the vocabulary; each token uses a different offset
    size_t first_logit = 0;
    ResponseStore responses;

    /// Describes what is wrong with the outcome of parsing a body, or returns an empty string.
    std::string try_body(const std::string& body) {
        auto wrong = look(read(body, read_chat_request), "chat");
        if (wrong.empty()) wrong = look(read(body, read_text_request), "text");
        if (wrong.empty()) wrong = look(read(body, read_native_request), "native");
        if (wrong.empty()) wrong = look(read(body, read_infill_request), "infill");
        if (wrong.empty()) wrong = look(read_messages(body), "messages");
        if (wrong.empty()) wrong = look(read_responses(body), "responses");
        if (wrong.empty()) wrong = look(read_tokenize_request(engine, body), "tokenize");
        if (wrong.empty()) wrong = look(read_detokenize_request(engine, body), "detokenize");
        return wrong;
    }

    using Reader = ApiResult<CompletionRequest> (*)(const RequestContext&, Body);
    ApiResult<CompletionRequest> read(const std::string& text, Reader reader) const {
        auto body = Body::parse(text);
        if (!body) return std::unexpected(body.error());
        return reader(context, std::move(*body));
    }

    ApiResult<CompletionRequest> read_messages(const std::string& text) const {
        const auto body = Body::parse(text);
        if (!body) return std::unexpected(body.error());
        auto chat = chat_of_messages(body->json());
        if (!chat) return std::unexpected(chat.error());
        return read_chat_request(context, Body(std::move(*chat)));
    }

    ApiResult<CompletionRequest> read_responses(const std::string& text) {
        const auto body = Body::parse(text);
        if (!body) return std::unexpected(body.error());
        auto request = chat_of_responses(body->json(), responses, "");
        if (!request) return std::unexpected(request.error());
        responses.put("r", "", request->messages);
        return read_chat_request(context, Body(std::move(request->chat)));
    }

    template <typename T>
    std::string look(const ApiResult<T>& result, const std::string& kind) {
        counts[kind + (result ? ": taken" : ": refused")]++;
        if (result) return look_at(*result);
        const auto& error = result.error();
        if (error.status != 400 || error.message.empty()) return "an error without a sentence";
        if (error.message.size() > 2000) return "an endless sentence";
        const auto parsed = nlohmann::json::parse(to_json(error), nullptr, false);
        if (!parsed.is_object() || !parsed["error"]["message"].is_string()) return "an error that is no JSON";
        return {};
    }

    std::string look_at(const CompletionRequest& request) {
        const auto& g = request.generation;
        if (request.prompts.empty() || request.prompts.size() > context.max_prompts) return "too few or many prompts";
        for (const auto& prompt : request.prompts) {
            if (auto wrong = look_at(prompt.tokens); !wrong.empty()) return wrong;
            if (prompt.tokens.empty()) return "an empty prompt";
        }
        if (g.n_choices < 1 || g.n_choices > context.max_choices) return "too many choices";
        if (g.n_logprobs < -1 || g.n_logprobs > 100) return "too many probabilities";
        if (g.max_tokens < -1) return "a negative limit";
        const auto& s = g.sampling;
        const auto within = [](float x, float most) { return x >= 0 && x <= most; };
        if (!within(s.temperature, 100) || !within(s.top_p, 1) || !within(s.min_p, 1)) return "sampling out of range";
        for (const auto& stop : g.stop)
            if (stop.empty() || stop.size() > 256) return "a stop string out of range";
        if (auto valid = validate(g.sequence); !valid) return "a policy that is none";
        // Create a sampler and draw tokens, as the batcher does.
        std::unique_ptr<Restriction> restriction;
        if (g.constraint) {
            auto begun = g.constraint->rule().begin(EngineAccess::state(engine)->vocabulary);
            if (!begun) {
                counts["constraint: refused"]++;
                return begun.error().message.empty() ? "a constraint's error without a sentence" : "";
            }
            restriction = std::move(*begun);
        }
        Sampler sampler(s, EngineAccess::state(engine)->vocabulary, engine.info().n_vocab, std::move(restriction));
        AnswerText text(g.stop);
        for (int i = 0; i < (g.constraint ? 12 : 2); i++) {
            first_logit = (first_logit + 1) % (logits.size() / 2);
            const auto token = sampler.sample(std::span(logits).subspan(first_logit, logits.size() / 2));
            if (!token || EngineAccess::state(engine)->vocabulary.is_end_of_generation(*token)) break;
            if (!is_utf8(text.add(engine.piece(*token)))) return "a text that is no UTF-8";
        }
        return {};
    }

    std::string look_at(const TokenizeRequest& request) { return look_at(request.tokens); }

    std::string look_at(const std::vector<Token>& tokens) const {
        for (const Token token : tokens)
            if (token < 0 || token >= engine.info().n_vocab) return "a token outside the vocabulary";
        return {};
    }
};

/// Saves a document named "a" that requests can name.
bool save_document(const Engine& engine, const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    auto conversation =
        Conversation::start(engine, {.sequence = {.budget = TokensPerLayer{64}}, .chat_template = "chatml"});
    if (!conversation || !conversation->begin("The box is red.\n\n")) return false;
    return conversation->save((folder / "a.kv").string()).has_value();
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Made-up request bodies against the server's readers."};
    std::string model;
    app.add_option("model", model, "a GGUF file")->required();
    test::FuzzLoop loop(app, 1'000'000);
    CLI11_PARSE(app, argc, argv);

    const auto engine = Engine::load(model, {.threads = 1});
    if (!engine) {
        std::fprintf(stderr, "%s\n", engine.error().message.c_str());
        return 1;
    }
    ToolConstraints tool_constraints;
    const auto folder = std::filesystem::temp_directory_path() / fmt::format("cake-fuzz-{}", ::getpid());
    if (!save_document(*engine, folder)) return 1;
    const std::shared_ptr<void> remove(nullptr, [&](void*) { std::filesystem::remove_all(folder); });
    DocumentShelf documents(*engine, folder.string(), {.template_name = "chatml"});
    const BatcherLimits limits{
        .n_ctx = 4096, .n_parallel = 4, .bytes_of_stores = uint64_t{1} << 30U, .bytes_of_staging = uint64_t{1} << 30U};
    Fuzz fuzz{.engine = *engine,
              .context = {.engine = *engine,
                          .sequence = {},
                          .sampling = {},
                          .max_choices = 4,
                          .n_ctx = 4096,
                          .max_prompts = 8,
                          .chat = {.template_name = "chatml"},
                          .style = {.format = &usual_reply_format()},
                          .tool_constraints = tool_constraints,
                          .documents = documents,
                          .limits = limits},
              .counts = {},
              .logits = {},
              .responses = {}};
    std::mt19937 random(static_cast<uint32_t>(loop.seed()));
    fuzz.logits.resize(2 * static_cast<size_t>(engine->info().n_vocab));
    for (float& logit : fuzz.logits) logit = static_cast<float>(random() % 1000) / 100;
    test::BodyMaker maker(loop.seed());
    const int code =
        loop.run([&] { return maker.body(); }, [&](const std::string& body) { return fuzz.try_body(body); });
    test::print_counts(fuzz.counts);
    return code;
}
