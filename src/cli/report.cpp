#include "cli/report.hpp"

#include <fmt/format.h>

#include <cmath>

#include "cli/parse.hpp"
#include "text/optional_json.hpp"

namespace cake::cli {

namespace {

/// Tokens per second of decoding. The first generated token does not count, because it results from the prefill.
double decode_rate(const RunReport& report) {
    return report.tokens.size() > 1 ? rate(report.tokens.size() - 1, report.decode_seconds) : 0;
}

}  // namespace

double rate(size_t n, double seconds) {
    return seconds > 0 ? static_cast<double>(n) / seconds : 0;
}

std::string format_duration(double seconds) {
    const auto whole = static_cast<int64_t>(std::lround(seconds));
    if (seconds < 10) return fmt::format("{:.1f} s", seconds);
    if (whole < 60) return fmt::format("{} s", whole);
    if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
    return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

const char* to_string(FinishReason reason) {
    switch (reason) {
        case FinishReason::length:
            return "length";
        case FinishReason::end_of_generation:
            return "stop";
        case FinishReason::cancelled:
            return "cancelled";
        case FinishReason::failed:
            return "failed";
    }
    return "failed";
}

std::string policy_name(const SequenceOptions& options) {
    if (options.scorer.empty() && options.allocator.empty()) return options.policy;
    return fmt::format("{} (scorer {}, allocator {})", options.policy,
                       options.scorer.empty() ? "as is" : options.scorer,
                       options.allocator.empty() ? "as is" : options.allocator);
}

/// Memory by device; empty if the CPU computes all layers.
nlohmann::ordered_json devices_json(const MemoryReport& memory) {
    auto devices = nlohmann::ordered_json::array();
    for (const auto& device : memory.devices)
        devices.push_back({{"device", device.device.empty() ? "CPU" : device.device},
                           {"kv_bytes_budget", device.kv_bytes_budget},
                           {"kv_bytes_peak", device.kv_bytes_peak},
                           {"kv_bytes_allocated", device.kv_bytes_allocated},
                           {"hidden_bytes_peak", device.hidden_bytes_peak},
                           {"compute_bytes_peak", device.compute_bytes_peak}});
    return devices;
}

nlohmann::ordered_json held_json(const Sequence& sequence) {
    const auto memory = sequence.memory();
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const auto& layer : sequence.layers()) {
        layers.push_back({{"layer", layers.size()},
                          {"dispersion", value_or_null<nlohmann::ordered_json>(layer.dispersion)},
                          {"shift", value_or_null<nlohmann::ordered_json>(layer.shift)},
                          {"preference", value_or_null<nlohmann::ordered_json>(layer.preference)},
                          {"budget", layer.budget},
                          {"kept", layer.kept}});
        if (layer.window > 0) layers.back()["window"] = layer.window;
        if (layer.recurrent) layers.back()["recurrent"] = true;
        if (layer.kv_layer) layers.back()["kv_layer"] = *layer.kv_layer;
    }
    nlohmann::ordered_json object{{"kv",
                                   {{"budget_tokens_per_layer", memory.budget_tokens_per_layer},
                                    {"bytes_budget", memory.kv_bytes_budget},
                                    {"bytes_layer", memory.layer_bytes},
                                    {"bytes_peak", memory.kv_bytes_peak},
                                    {"bytes_now", memory.kv_bytes_now},
                                    {"bytes_full_cache", memory.kv_bytes_full_cache}}},
                                  {"hidden_bytes_peak", memory.hidden_bytes_peak},
                                  {"compute_bytes_peak", memory.compute_bytes_peak}};
    if (!memory.devices.empty()) object["devices"] = devices_json(memory);
    object["layers"] = std::move(layers);
    return object;
}

nlohmann::ordered_json to_json(const RunReport& report, const Engine& engine, const Sequence& sequence) {
    nlohmann::ordered_json object{
        {"model", engine.info().path},
        {"policy", report.policy},
        {"prompt_tokens", report.prompt_tokens},
        {"generated_tokens", report.tokens.size()},
        {"finish_reason", to_string(sequence.finish_reason())},
        {"prefill_seconds", report.prefill_seconds},
        {"prefill_tokens_per_second", rate(static_cast<size_t>(report.prompt_tokens), report.prefill_seconds)},
        {"decode_tokens_per_second", decode_rate(report)}};
    object.update(held_json(sequence));
    object["tokens"] = report.tokens;
    object["text"] = report.text;
    return object;
}

std::string summary(const RunReport& report, const Sequence& sequence) {
    const auto memory = sequence.memory();
    return fmt::format(
        "prompt {} tokens, {:.1f} per second; generated {} tokens, {:.1f} per second\n"
        "K/V memory ({}): {} held of {} allowed; a full cache would hold {}\n",
        format_count(static_cast<uint64_t>(report.prompt_tokens)),
        rate(static_cast<size_t>(report.prompt_tokens), report.prefill_seconds), format_count(report.tokens.size()),
        decode_rate(report), report.policy, format_bytes(memory.kv_bytes_now), format_bytes(memory.kv_bytes_budget),
        format_bytes(memory.kv_bytes_full_cache));
}

}  // namespace cake::cli
