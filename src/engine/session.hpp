#pragma once

#include <memory>
#include <string>

#include "engine/sequence_parts.hpp"

namespace cake {

/// Writes a sequence to a session file: options, reports, ring, and every slot that holds a token.
Result<void> save_session(const SequenceParts& state, const std::string& path);

/// The other way. Everything in the file is checked before it sizes, indexes or is believed; nothing is half-loaded.
Result<std::unique_ptr<SequenceParts>> load_session(std::shared_ptr<const EngineState> engine, const std::string& path);

}  // namespace cake
