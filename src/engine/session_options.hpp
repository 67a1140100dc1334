#pragma once

#include "cake/sequence.hpp"
#include "engine/json_fields.hpp"

namespace cake {

/// The options of a sequence in a session file, without the budget, which is saved in tokens per layer.
Json write_options(const SequenceOptions& o);

/// Reads what write_options() wrote. `fields` notes what is wrong.
SequenceOptions read_options(Fields& fields);

}  // namespace cake
