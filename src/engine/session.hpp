#pragma once

#include <memory>
#include <string>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Writes a sequence to a session file: options, reports, query ring, and every slot that holds a token.
Result<void> save_session(const SequenceParts& state, const std::string& path);

/// Loads a sequence from a session file. Every value in the file is checked before it is used, and a damaged file is
/// refused as a whole.
Result<std::unique_ptr<SequenceParts>> load_session(std::shared_ptr<const EngineState> engine, const std::string& path);

}  // namespace cake
