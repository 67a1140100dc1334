#include "server/document_shelf.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <ranges>
#include <system_error>

#include "engine/engine_state.hpp"
#include "engine/replay_plan.hpp"
#include "engine/session.hpp"
#include "server/document_prompt.hpp"
#include "text/chat_template.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

constexpr const char* kExtension = ".kv";

std::string list(const std::vector<std::string>& names) {
    constexpr size_t kMost = 10;
    const auto text = names | std::views::take(kMost) | std::views::join_with(std::string_view(", ")) |
                      std::ranges::to<std::string>();
    return names.size() > kMost ? text + ", …" : text;
}

}  // namespace

/// Names of all files in the folder, sorted. Forgets files that are gone.
std::vector<std::string> DocumentShelf::names() {
    std::vector<std::string> names;
    std::error_code unreadable;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, unreadable))
        if (entry.path().extension() == kExtension) names.push_back(entry.path().stem().string());
    std::ranges::sort(names);
    const std::scoped_lock lock(mutex_);
    std::erase_if(known_, [&](const auto& entry) { return !std::ranges::binary_search(names, entry.first); });
    return names;
}

std::vector<std::pair<std::string, DocumentShelf::Found>> DocumentShelf::find_all() {
    std::vector<std::pair<std::string, Found>> all;
    for (auto& name : names()) all.emplace_back(name, look(name));
    return all;
}

DocumentShelf::Found DocumentShelf::find(const std::string& name) {
    if (folder_.empty())
        return fail(Error::Code::not_found, "this server offers no documents: start it with --documents FOLDER");
    const auto all = names();
    // A name that is not in the list never becomes part of a path.
    if (!std::ranges::binary_search(all, name))
        return fail(Error::Code::not_found,
                    all.empty()
                        ? "there are no documents in the folder of the server yet: cake read makes them"
                        : fmt::format("there is no document \"{}\" here, only {}", beginning_of(name), list(all)));
    return look(name);
}

/// What is in a file of the folder, which is opened only if it has changed.
DocumentShelf::Found DocumentShelf::look(const std::string& name) {
    const auto path = std::filesystem::path(folder_) / (name + kExtension);
    std::error_code unknown;
    const auto changed = std::filesystem::last_write_time(path, unknown).time_since_epoch().count();
    const auto n_bytes = std::filesystem::file_size(path, unknown);
    {
        const std::scoped_lock lock(mutex_);
        const auto known = known_.find(name);
        if (known != known_.end() && known->second.changed == changed && known->second.n_bytes == n_bytes)
            return known->second.found;
    }
    auto found = open(name, path.string());
    const std::scoped_lock lock(mutex_);
    known_[name] = {.changed = changed, .n_bytes = n_bytes, .found = found};
    return found;
}

DocumentShelf::Found DocumentShelf::open(const std::string& name, const std::string& path) const {
    const auto engine = EngineAccess::state(engine_);
    const auto described = describe_session(engine, path);
    if (!described) {
        const auto& message = described.error().message;
        return fail(described.error().code,
                    message.starts_with(path) ? name + message.substr(path.size()) : name + ": " + message);
    }
    const auto& state = *described->state;
    auto note = read_conversation_note(state.note);
    if (!note || !note->is_begun())
        return fail(name + ": is not a document that cake read has saved with a chat template");
    if (!state.config.evicts())
        return fail(name + ": was read with the policy full, whose memory a server cannot bound: read it with another");
    if (note->chat_template != chat_template_hash(engine->vocabulary, chat_))
        return fail(name +
                    ": was read with another chat template than the server's: read it again, or start the "
                    "server with that template");
    const auto is_outside = [&](Token token) { return token >= engine_.info().n_vocab; };
    if (std::ssize(note->begun_tokens) != state.progress.n_tokens ||
        std::ranges::any_of(note->begun_tokens, is_outside))
        return fail(Error::Code::corrupt, name + ": its note names other tokens than it has: read it again");
    return std::make_shared<const SharedDocument>(SharedDocument{
        .file = {.path = path,
                 .name = name,
                 .n_tokens = state.progress.n_tokens,
                 .tokens_per_layer =
                     std::get<TokensPerLayer>(state.config.options.budget.value_or(TokensPerLayer{})).tokens,
                 .longest_run = described->longest_run,
                 .note_hash = XXH3_64bits(state.note.data(), state.note.size())},
        .sequence = state.config.options,
        .messages = std::move(note->messages),
        .tokens = std::move(note->begun_tokens)});
}

std::string DocumentShelf::problem_of(const SharedDocument& document, const BatcherLimits& limits) const {
    const auto& name = document.file.name;
    if (document.file.n_tokens >= limits.n_ctx)
        return fmt::format(
            "{}: has {} tokens, and the context of the server {}: start the server with a larger one (-c)", name,
            document.file.n_tokens, limits.n_ctx);
    auto options = document_options(document, limits.sequence);
    options.max_tokens = limits.n_ctx;
    const auto engine = EngineAccess::state(engine_);
    const auto config = SequenceConfig::make(engine, options);
    if (!config) return fmt::format("{}: {}", name, config.error().message);
    const auto plan = config->plan(1);
    if (!plan) return fmt::format("{}: {}", name, plan.error().message);
    const uint64_t n_bytes = planned_bytes(engine->compute.memory(), config->layout, *plan);
    if (n_bytes > limits.bytes_of_stores)
        return fmt::format(
            "{}: takes {} bytes of K/V memory with its conversation, and all sequences of the server have {}: start "
            "the server with more (--kv-memory, or --parallel)",
            name, n_bytes, limits.bytes_of_stores);
    const int64_t n_replay = config->replay() == Replay::none ? 0 : kMaxReplayTokens;
    const int64_t n_rows = document.file.longest_run + 1 + n_replay;  // with a question of one token
    const uint64_t of_layer = staging_bytes(engine->compute.memory(), config->layout, n_rows);
    if (of_layer <= limits.bytes_of_staging) return {};
    return fmt::format(
        "{}: takes {} bytes for the layer being read, with K of type {} and V of type {}, and the server has {}: start "
        "the server with these types (-ctk, -ctv), a larger context (-c) or longer segments (--segment)",
        name, of_layer, options.cache_type_k, options.cache_type_v, limits.bytes_of_staging);
}

}  // namespace cake::server
