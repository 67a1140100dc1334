#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"

namespace cake::eval {

/// K/V memory at one moment of reading and answering.
struct MemoryMoment {
    double tokens = 0;        // read so far, as a share of the work, then generated
    uint64_t held_bytes = 0;  // what layers kept, and the full-length layer while reading
    uint64_t full_bytes = 0;  // what a full cache would hold
};

/// Where the cake went under one policy.
struct Inspection {
    std::string policy;
    SequenceOptions options;
    MemoryReport memory;
    std::vector<LayerReport> layers;
    std::vector<std::vector<int32_t>> stages;  // Sequence::stages()
    std::vector<std::vector<uint8_t>> kept;    // [n_layer][n_tokens] how many KV heads hold the token behind the text
    std::vector<MemoryMoment> moments;
    std::string answer;
};

struct InspectionOptions {
    int64_t segment = 0;
    int64_t n_predict = 64;
    ProgressFunction progress;
    std::function<bool()> cancelled{};  // asked before each token of the answer
};

/// Reads a text under one policy and answers it with the likeliest tokens, taking notes.
Result<Inspection> inspect(const Engine& engine, const SequenceOptions& sequence_options, std::span<const Token> tokens,
                           const InspectionOptions& options);

/// A page that shows one inspection, or several side by side, of the same text: whole in itself, it loads nothing.
std::string inspection_page(const Engine& engine, const std::string& text_name, std::span<const Token> tokens,
                            std::span<const Inspection> inspections);

}  // namespace cake::eval
