#include "server/generation_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <variant>

#include "cake/policy.hpp"
#include "server/constraint_fields.hpp"
#include "text/sampling_fields.hpp"

namespace cake::server {

namespace {

void read_stop(Body& body, std::vector<std::string>& stop) {
    constexpr size_t kMaxStops = 16;
    constexpr size_t kMaxBytes = 256;
    const Json* value = body.find("stop");
    if (value == nullptr) return;
    const auto add = [&](const Json& text) {
        if (!text.is_string()) return false;
        stop.push_back(text.get<std::string>());
        return !stop.back().empty() && stop.back().size() <= kMaxBytes;
    };
    const bool list = value->is_array() && value->size() <= kMaxStops;
    if (list ? !std::ranges::all_of(*value, add) : !add(*value)) {
        body.wrong("stop", fmt::format("stop must be a string of 1 to {} bytes, or an array of up to {} of them",
                                       kMaxBytes, kMaxStops));
    }
}

void read_logit_bias(Body& body, const Engine& engine, std::vector<LogitBias>& biases) {
    constexpr size_t kMaxBiases = 1024;
    constexpr double kMaxBias = 100;
    const Json* value = body.find("logit_bias");
    if (value == nullptr) return;
    const auto wrong = [&] {
        body.wrong("logit_bias", fmt::format("logit_bias must map up to {} token ids below {} to numbers from {} to {}",
                                             kMaxBiases, engine.info().n_vocab, -kMaxBias, kMaxBias));
    };
    if (!value->is_object() || value->size() > kMaxBiases) return wrong();
    for (const auto& entry : value->items()) {
        const auto& key = entry.key();
        Token token = 0;
        const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token);
        const bool good = error == std::errc() && end == key.data() + key.size() && token >= 0 &&
                          token < engine.info().n_vocab && entry.value().is_number();
        if (!good) return wrong();
        const auto bias = entry.value().get<double>();
        if (!(std::abs(bias) <= kMaxBias)) return wrong();
        biases.push_back({.token = token, .bias = static_cast<float>(bias)});
    }
}

/// Folds a seed to 32 bits, so that all of its bits have an effect. The result is never the value that requests a
/// random seed.
uint32_t seed_of(int64_t seed) {
    constexpr uint32_t kRandom = 0xFFFFFFFF;
    const auto bits = static_cast<uint64_t>(seed);
    const auto folded = static_cast<uint32_t>(bits ^ (bits >> 32U));
    return folded == kRandom ? 0 : folded;
}

/// Reads the field `samplers`, the steps in their order: names, or a text with a letter for each, as llama.cpp has
/// them.
void read_samplers(Body& body, std::vector<SamplerStep>& samplers) {
    const Json* value = body.find("samplers");
    if (value == nullptr) return;
    constexpr size_t kMaxSteps = 32;
    std::vector<SamplerStep> steps;
    const auto add = [&](std::optional<SamplerStep> step) {
        if (step) steps.push_back(*step);
        return step.has_value();
    };
    const auto add_name = [&](const Json& name) {
        return name.is_string() && add(sampler_step_of(name.get_ref<const std::string&>()));
    };
    const auto add_letter = [&](char letter) { return add(sampler_step_of(letter)); };
    bool good = false;
    if (const auto* letters = value->get_ptr<const std::string*>())
        good = letters->size() <= kMaxSteps && std::ranges::all_of(*letters, add_letter);
    else if (value->is_array())
        good = value->size() <= kMaxSteps && std::ranges::all_of(*value, add_name);
    if (!good)
        return body.wrong("samplers",
                          fmt::format("samplers must be an array of these names: {}", sampler_step_names()));
    samplers = std::move(steps);
}

void read_dry_breakers(Body& body, std::vector<std::string>& breakers) {
    constexpr size_t kMaxBreakers = 64;
    constexpr size_t kMaxBytes = 40;
    const Json* value = body.find("dry_sequence_breakers");
    if (value == nullptr) return;
    const auto is_good = [](const Json& text) {
        return text.is_string() && !text.get_ref<const std::string&>().empty() &&
               text.get_ref<const std::string&>().size() <= kMaxBytes;
    };
    if (!value->is_array() || value->size() > kMaxBreakers || !std::ranges::all_of(*value, is_good))
        return body.wrong("dry_sequence_breakers",
                          fmt::format("dry_sequence_breakers must be an array of up to {} strings of 1 to {} bytes",
                                      kMaxBreakers, kMaxBytes));
    breakers = value->get<std::vector<std::string>>();
}

/// Reads a number into the member that it sets.
void read_sampling_number(Body& body, const char* name, const SamplingField& field, SamplingOptions& sampling) {
    if (const auto* member = std::get_if<float SamplingOptions::*>(&field.member)) {
        if (const auto number = body.number(name, field.least, field.most))
            sampling.** member = static_cast<float>(*number);
    } else if (const auto number =
                   body.integer(name, static_cast<int64_t>(field.least), static_cast<int64_t>(field.most))) {
        sampling.*std::get<int32_t SamplingOptions::*>(field.member) = static_cast<int32_t>(*number);
    }
}

void read_sampling(Body& body, const Engine& engine, SamplingOptions& sampling) {
    for (const auto& field : sampling_fields()) {
        read_sampling_number(body, field.name, field, sampling);
        if (field.name == std::string_view("repeat_penalty"))
            read_sampling_number(body, "repetition_penalty", field, sampling);  // vLLM's name
    }
    read_samplers(body, sampling.samplers);
    read_dry_breakers(body, sampling.dry_sequence_breakers);
    if (const auto seed = body.integer("seed", INT64_MIN, INT64_MAX)) sampling.seed = seed_of(*seed);
    read_logit_bias(body, engine, sampling.logit_bias);
}

}  // namespace

void read_generation_fields(Body& body, const RequestContext& context, CompletionRequest& request) {
    auto& generation = request.generation;
    request.stream = body.flag("stream").value_or(false);
    if (const Json* options = body.find("stream_options")) {
        const auto usage = options->is_object() ? options->value("include_usage", Json()) : Json("none");
        if (usage.is_boolean())
            request.include_usage = usage.get<bool>();
        else if (!usage.is_null())
            body.wrong("stream_options", "stream_options must be an object with include_usage, true or false");
    }
    read_stop(body, generation.stop);
    generation.sampling = context.sampling;
    read_sampling(body, context.engine, generation.sampling);
    generation.constraint = read_constraint(body);
    if (generation.constraint) request.not_enforced = generation.constraint->not_enforced();
    if (const auto n = body.integer("n", 1, context.max_choices)) generation.n_choices = static_cast<int32_t>(*n);
    generation.ignore_eos = body.flag("ignore_eos").value_or(false);
    generation.reuse = body.flag("cache_prompt").value_or(true);
    generation.sequence = context.sequence;
    constexpr size_t kMaxName = 256;
    const auto policy = body.text("policy", kMaxName);
    const auto budget = body.integer("kv_budget", 1, int64_t{1} << 31);
    if (policy && *policy != generation.sequence.policy) {
        generation.sequence.policy = *policy;
        generation.sequence.scorer = generation.sequence.allocator = {};
        if (*policy == kFullPolicy) generation.sequence.budget.reset();
    }
    if (budget) generation.sequence.budget = TokensPerLayer{*budget};
    if (body.good()) {
        if (auto valid = validate(generation.sequence); !valid)
            body.wrong(policy ? "policy" : "kv_budget", valid.error().message);
    }
    request.cache_salt = read_cache_salt(body);
    request.timings_per_token = body.flag("timings_per_token").value_or(false);
    // What has no meaning here: any slot serves, and eviction decides which tokens of the prompt are kept.
    body.ignore({"id_slot", "n_keep", "n_discard"});
    body.ignore(
        {"model", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_retention", "verbosity"});
}

Json read_cache_salt(Body& body) {
    constexpr size_t kMaxSalt = 1024;
    Json salt = Json::array();
    for (const char* name : {"user", "prompt_cache_key", "cache_salt"})
        salt.push_back(body.text(name, kMaxSalt).value_or(""));
    return salt;
}

std::optional<int64_t> read_limit(Body& body, const char* name, const RequestContext& context) {
    return body.integer(name, -1, std::max<int64_t>(context.n_ctx, int64_t{1} << 31));
}

}  // namespace cake::server
