#include "server/slots.hpp"

#include "text/answer_text.hpp"
#include "text/optional_json.hpp"

namespace cake::server {

namespace {

const char* name_of(SlotState state) {
    switch (state) {
        case SlotState::queued:
            return "queued";
        case SlotState::reading:
            return "reading";
        case SlotState::generating:
            return "generating";
        case SlotState::prefix:
            return "prefix";
        case SlotState::idle:
            break;
    }
    return "idle";
}

}  // namespace

Json slot_json(const Engine& engine, const SlotReport& report, bool pieces) {
    auto layers = Json::array();
    for (size_t i = 0; i < report.layers.size(); i++) {
        const auto& layer = report.layers[i];
        layers.push_back({{"layer", i},
                          {"dispersion", value_or_null<Json>(layer.dispersion)},
                          {"shift", value_or_null<Json>(layer.shift)},
                          {"preference", value_or_null<Json>(layer.preference)},
                          {"budget", layer.budget},
                          {"window", layer.window},
                          {"recurrent", layer.recurrent},
                          {"kv_layer", value_or_null<Json>(layer.kv_layer)},
                          {"kept", layer.kept}});
    }
    Json slot{{"id", report.id},
              {"state", name_of(report.state)},
              {"queue_position", report.queue_position},
              {"prompt_tokens", report.n_prompt},
              {"read_tokens", report.n_read},
              {"cached_tokens", report.n_cached},
              {"generated_tokens", report.n_generated},
              {"policy", report.policy},
              {"n_layer", engine.info().n_layer},
              {"n_kv_layers", engine.info().n_kv_layers},
              {"kv",
               {{"budget_tokens_per_layer", report.memory.budget_tokens_per_layer},
                {"bytes_now", report.memory.kv_bytes_now},
                {"bytes_allocated", report.memory.kv_bytes_allocated},
                {"bytes_full_cache", report.memory.kv_bytes_full_cache}}},
              {"layers", std::move(layers)}};
    if (!report.held.empty()) slot["held"] = report.held;
    if (pieces) slot["pieces"] = token_texts(engine, report.tokens);
    return slot;
}

Json slots_json(const Engine& engine, std::span<const SlotReport> reports, const PoolReport& pool) {
    auto slots = Json::array();
    for (const auto& report : reports) {
        auto slot = slot_json(engine, report, false);
        // Show only a prefix, which identifies a request. The whole ID would give access to its text.
        constexpr size_t kShown = 16;
        slot["id"] = report.id.substr(0, kShown);
        slots.push_back(std::move(slot));
    }
    return {
        {"slots", std::move(slots)},
        {"kv",
         {{"bytes_bound", pool.kv_bytes_bound}, {"bytes_now", pool.kv_bytes_now}, {"bytes_peak", pool.kv_bytes_peak}}}};
}

}  // namespace cake::server
