#pragma once

#include <span>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/body.hpp"

namespace cake::server {

/// The batcher's reports as JSON for /slots. `pieces`: include the text of each token.
Json slot_json(const Engine& engine, const SlotReport& report, bool pieces);
Json slots_json(const Engine& engine, std::span<const SlotReport> reports, const PoolReport& pool);

}  // namespace cake::server
