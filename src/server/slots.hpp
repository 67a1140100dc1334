#pragma once

#include <span>

#include "cake/engine.hpp"
#include "server/body.hpp"
#include "serving/batcher.hpp"

namespace cake::server {

/// What the batcher reports, as /slots tells it. `pieces`: with the texts of the tokens.
Json slot_json(const Engine& engine, const SlotReport& report, bool pieces);
Json slots_json(const Engine& engine, std::span<const SlotReport> reports, const PoolReport& pool);

/// The texts of tokens; a character that is spread over several stands whole in the last of them.
Json pieces_json(const Engine& engine, std::span<const Token> tokens);

}  // namespace cake::server
