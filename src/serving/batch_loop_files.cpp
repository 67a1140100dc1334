#include <fmt/format.h>
#include <xxhash.h>

#include <filesystem>
#include <system_error>

#include "engine/engine_state.hpp"
#include "engine/json_fields.hpp"
#include "engine/out_of_memory.hpp"
#include "engine/session.hpp"
#include "serving/batch_loop.hpp"
#include "text/json_text.hpp"

namespace cake {

namespace {

/// Stands for a salt, which may contain an API key, in a file.
uint64_t hash_of(const std::string& salt) {
    return XXH3_64bits(salt.data(), salt.size());
}

/// The text of a sequence and whose it is, as the note of a session.
std::string note_of(const CachedSequence& sequence) {
    return json_text(
        Json{{"slot", hash_of(sequence.salt)}, {"n_prompt", sequence.n_prompt}, {"tokens", sequence.tokens}});
}

/// Reads what note_of() wrote. Fails if it is another note, or if it does not belong to the sequence.
Result<void> read_note(CachedSequence& sequence, const SequenceParts& state) {
    const Json note = parse_json(state.note);
    Fields fields(note);
    uint64_t hash = 0;
    int64_t n_prompt = 0;
    fields.unsigned64("slot", hash);
    fields.integer("n_prompt", n_prompt, 1, state.progress.n_tokens);
    const Json* tokens = fields.array("tokens", static_cast<size_t>(state.progress.n_tokens));
    const auto is_token = [&](const Json& token) {
        return token.is_number_unsigned() &&
               token.get<uint64_t>() < static_cast<uint64_t>(state.config.hparams().n_vocab);
    };
    if (!fields.first_wrong().empty() || !std::ranges::all_of(*tokens, is_token))
        return fail("the session was not saved from a slot of a server");
    if (hash != hash_of(sequence.salt)) return fail("the session belongs to another client");
    sequence.tokens = tokens->get<std::vector<Token>>();
    sequence.n_prompt = static_cast<size_t>(n_prompt);
    return {};
}

SlotFile report_of_file(const CachedSequence& sequence, const std::string& path) {
    std::error_code unknown;
    const auto n_bytes = std::filesystem::file_size(path, unknown);
    return {.n_tokens = std::ssize(sequence.tokens), .n_bytes = unknown ? 0 : n_bytes};
}

}  // namespace

Result<const CachedSequence*> BatchLoop::find_idle(const SlotName& name) const {
    if (const auto* found = cache_.find(name)) return found;
    return fail("no sequence with that name is idle in memory: it is still running, or has been dropped");
}

Result<SlotFile> BatchLoop::save_slot(const SlotName& name, const std::string& path) {
    return queue_.between_steps([&] -> Result<SlotFile> {
        if (const auto lost = queue_.lost()) return fail(Error::Code::internal, *lost);
        return within_memory([&] -> Result<SlotFile> {
            const auto found = find_idle(name);
            if (!found) return std::unexpected(found.error());
            SequenceParts& state = *(*found)->state;
            state.note = note_of(**found);
            const auto saved = save_session(state, path);
            state.note.clear();
            if (!saved) return std::unexpected(saved.error());
            return report_of_file(**found, path);
        });
    });
}

/// Loads a sequence and reserves its store. Nothing is dropped for it before it is known whose it is, and that it fits.
Result<void> BatchLoop::load(CachedSequence& loaded, const std::string& path) {
    const auto accept = [&](const SequenceParts& state, uint64_t n_bytes, int64_t) -> Result<void> {
        if (auto read = read_note(loaded, state); !read) return read;
        const auto& config = state.config;
        if (config.evicts() && config.options.max_tokens != pool_.n_ctx())
            return fail(fmt::format("the session was saved with a context of {} tokens, and the server has {}",
                                    config.options.max_tokens, pool_.n_ctx()));
        if (n_running() >= n_parallel() || n_bytes > pool_.stores_left() + cache_.kv_bytes())
            return fail("running requests leave no memory for another sequence: try again after their answers");
        make_room_for(1);
        take_stores(n_bytes);
        loaded.kv_bytes = n_bytes;
        return {};
    };
    auto state = load_session(engine_, path, {.whole = &accountant_, .accept = accept});
    if (!state) return std::unexpected(state.error());
    loaded.state = std::move(*state);
    loaded.state->note.clear();
    loaded.tokens_per_layer = loaded.state->cache.plan.tokens_per_layer;
    return {};
}

Result<SlotFile> BatchLoop::load_slot(const std::string& path, const std::string& id, const std::string& cache_salt) {
    return queue_.between_steps([&] -> Result<SlotFile> {
        if (const auto lost = queue_.lost()) return fail(Error::Code::internal, *lost);
        CachedSequence loaded{.id = id, .salt = cache_salt, .state = nullptr, .tokens = {}};
        const auto done = within_memory([&] -> Result<SlotFile> {
            if (auto read = load(loaded, path); !read) return std::unexpected(read.error());
            const auto file = report_of_file(loaded, path);
            cache_.keep(std::move(loaded));
            return file;
        });
        if (!done) pool_.give_store(loaded.kv_bytes);
        return done;
    });
}

Result<int64_t> BatchLoop::erase_slot(const SlotName& name) {
    return queue_.between_steps([&] -> Result<int64_t> {
        if (const auto lost = queue_.lost()) return fail(Error::Code::internal, *lost);
        const auto found = find_idle(name);
        if (!found) return std::unexpected(found.error());
        const int64_t n_tokens = std::ssize((*found)->tokens);
        drop(cache_.take(**found));
        return n_tokens;
    });
}

}  // namespace cake
