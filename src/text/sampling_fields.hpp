#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "cake/sampling.hpp"

namespace cake {

/// A number among the sampling options, with the names by which requests and the command line set it.
struct SamplingField {
    const char* name;   // in requests
    const char* flags;  // on the command line
    std::variant<float SamplingOptions::*, int32_t SamplingOptions::*> member;
    double least;
    double most;
    const char* unit;  // placeholder for the value in help texts
    const char* help;
};

/// All numbers among the sampling options except for the seed.
std::span<const SamplingField> sampling_fields();

/// Finds a step by the name that llama.cpp gives it, such as "top_k".
std::optional<SamplerStep> sampler_step_of(std::string_view name);
/// Finds a step by the letter that llama.cpp gives it, such as 'k'.
std::optional<SamplerStep> sampler_step_of(char letter);

/// The names of all steps in their usual order, separated by commas.
std::string sampler_step_names();

}  // namespace cake
