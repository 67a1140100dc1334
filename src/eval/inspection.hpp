#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::eval {

/// K/V memory at one moment of prefill or generation.
struct MemoryMoment {
    double tokens = 0;  // prefill: prompt tokens, in proportion to the work done; later: tokens of prompt and answer
    uint64_t held_bytes = 0;  // K/V in the store, plus the staging layer during prefill
    uint64_t full_bytes = 0;  // size of a full cache at this moment
};

/// How one policy divided the budget while processing a text.
struct Inspection {
    std::string policy;
    SequenceOptions options;
    MemoryReport memory;
    std::vector<LayerReport> layers;
    std::vector<std::vector<int32_t>> stages;  // Sequence::stages()
    /// Positions of the tokens that each KV head holds after prefill, ascending: [n_layer][n_head_kv].
    std::vector<std::vector<std::vector<int32_t>>> held;
    std::vector<MemoryMoment> moments;
    std::string answer;
};

struct InspectionOptions {
    int64_t segment = 0;
    int64_t n_predict = 64;
    ProgressFunction progress;
    std::function<bool()> cancelled{};  // polled before each token of the answer
};

/// Prefills a text under one policy, generates an answer greedily, and records what the layers hold.
Result<Inspection> inspect(const Engine& engine, const SequenceOptions& sequence_options, std::span<const Token> tokens,
                           const InspectionOptions& options);

/// Self-contained HTML page that shows one inspection of a text, or several side by side. It loads no other files.
std::string inspection_page(const Engine& engine, const std::string& text_name, std::span<const Token> tokens,
                            std::span<const Inspection> inspections);

}  // namespace cake::eval
