#include "server/document_shelf.hpp"

#include <algorithm>
#include <filesystem>
#include <format>
#include <system_error>

#include "engine/engine_state.hpp"
#include "engine/session.hpp"
#include "text/chat_template.hpp"
#include "text/utf8.hpp"

namespace cake::server {

namespace {

constexpr const char* kExtension = ".kv";

std::string list(const std::vector<std::string>& names) {
    constexpr size_t kMost = 10;
    std::string text;
    for (size_t i = 0; i < std::min(names.size(), kMost); i++) text += (text.empty() ? "" : ", ") + names[i];
    return names.size() > kMost ? text + ", …" : text;
}

}  // namespace

std::vector<std::string> DocumentShelf::names() const {
    std::vector<std::string> names;
    std::error_code unreadable;
    for (const auto& entry : std::filesystem::directory_iterator(folder_, unreadable))
        if (entry.path().extension() == kExtension) names.push_back(entry.path().stem().string());
    std::ranges::sort(names);
    return names;
}

Result<std::shared_ptr<const SharedDocument>> DocumentShelf::find(const std::string& name) {
    if (folder_.empty())
        return fail(Error::Code::not_found, "this server offers no documents: start it with --documents FOLDER");
    const auto all = names();
    // A name that is not in the list never becomes part of a path.
    if (!std::ranges::binary_search(all, name))
        return fail(Error::Code::not_found,
                    all.empty()
                        ? "there are no documents in the folder of the server yet: cake read makes them"
                        : std::format("there is no document \"{}\" here, only {}", beginning_of(name), list(all)));
    const auto path = std::filesystem::path(folder_) / (name + kExtension);
    std::error_code unknown;
    const auto changed = std::filesystem::last_write_time(path, unknown).time_since_epoch().count();
    const std::scoped_lock lock(mutex_);
    auto& known = known_[name];
    if (!known.document || known.changed != changed) {
        auto opened = open(path.string());
        if (!opened) {
            known_.erase(name);
            const auto& message = opened.error().message;
            return fail(opened.error().code, message.starts_with(path.string())
                                                 ? name + message.substr(path.string().size())
                                                 : std::format("{}: {}", name, message));
        }
        known = {.changed = changed, .document = std::make_shared<const SharedDocument>(std::move(*opened))};
    }
    return known.document;
}

Result<SharedDocument> DocumentShelf::open(const std::string& path) const {
    const auto engine = EngineAccess::state(engine_);
    const auto described = describe_session(engine, path);
    if (!described) return std::unexpected(described.error());
    const auto& state = **described;
    auto note = read_conversation_note(state.note);
    if (!note || !note->is_begun) return fail("is not a document that cake read has saved");
    if (!state.config.evicts()) return fail("was read with the policy full, which a server cannot bound");
    SharedDocument document{.file = {.path = path,
                                     .n_tokens = state.progress.n_tokens,
                                     .tokens_per_layer = std::get<TokensPerLayer>(*state.config.options.budget).tokens},
                            .sequence = state.config.options,
                            .messages = std::move(note->messages)};
    std::error_code unknown;
    document.n_bytes = std::filesystem::file_size(path, unknown);
    auto options = chat_;
    options.continue_final_message = true;
    auto text = render_chat(engine->vocabulary, document.messages, options);
    if (!text) return std::unexpected(text.error());
    auto tokens = tokenize_chat(engine->vocabulary, *text, false);
    if (!tokens) return std::unexpected(tokens.error());
    if (std::ssize(*tokens) != document.file.n_tokens)
        return fail(
            "was read with another chat template than the server's: read it again, or start the server with it");
    document.text = std::move(*text);
    document.tokens = std::move(*tokens);
    return document;
}

}  // namespace cake::server
