#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Writes a sequence to a session file: options, reports, query ring, and every slot that holds a token. If the
/// sequence has no logits, it cannot be continued without a further text.
Result<void> save_session(const SequenceParts& state, const std::string& path, const SaveOptions& options = {});

/// How a saved sequence is loaded.
struct LoadOptions {
    /// Tokens by which the budget of a layer, or the capacity of a full cache, becomes larger. They are free at first.
    int64_t n_more = 0;
    std::optional<int64_t> max_tokens{};  // SequenceOptions::max_tokens; not set: as saved
    Accountant* whole = nullptr;          // if not null, also counts the memory of the sequence
    /// Asked before the cache is allocated, with the note, the K/V memory in bytes and
    /// SessionDescription::longest_run; null: nothing is asked. An error refuses the session.
    std::function<Result<void>(const SequenceParts& loaded, uint64_t n_bytes, int64_t longest_run)> accept{};
};

/// Loads a sequence from a session file. Every value in the file is checked before it is used, and a damaged file is
/// refused as a whole.
Result<std::unique_ptr<SequenceParts>> load_session(std::shared_ptr<const EngineState> engine, const std::string& path,
                                                    const LoadOptions& options = {});

/// What load_session() would load.
struct SessionDescription {
    std::unique_ptr<SequenceParts> state;  // without the cache
    int64_t longest_run = 0;               // tokens of the KV head that holds the most, in any layer
};

Result<SessionDescription> describe_session(std::shared_ptr<const EngineState> engine, const std::string& path);

}  // namespace cake
