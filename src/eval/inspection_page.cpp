#include <nlohmann/json.hpp>

#include "eval/inspection.hpp"
#include "eval/page_parts.hpp"
#include "text/answer_text.hpp"
#include "text/json_text.hpp"
#include "text/optional_json.hpp"

namespace cake::eval {

namespace {

using Json = nlohmann::ordered_json;

Json of_inspection(const Inspection& inspection) {
    Json layers = Json::array();
    for (const auto& layer : inspection.layers) {
        layers.push_back({{"dispersion", value_or_null<Json>(layer.dispersion)},
                          {"shift", value_or_null<Json>(layer.shift)},
                          {"preference", value_or_null<Json>(layer.preference)},
                          {"budget", layer.budget},
                          {"window", layer.window},
                          {"recurrent", layer.recurrent},
                          {"kv_layer", value_or_null<Json>(layer.kv_layer)},
                          {"n_head_kv", layer.n_head_kv},
                          {"kept", layer.kept}});
    }
    // One string per layer with one character per token: '0' plus the number of KV heads that hold it.
    Json kept = Json::array();
    for (const auto& counts : inspection.kept) {
        std::string line;
        for (const uint8_t count : counts) line += static_cast<char>('0' + std::min<int>(count, 70));
        kept.push_back(std::move(line));
    }
    Json devices = Json::array();
    for (const auto& device : inspection.memory.devices)
        devices.push_back({{"device", device.device.empty() ? "CPU" : device.device},
                           {"bytes_budget", device.kv_bytes_budget},
                           {"bytes_peak", device.kv_bytes_peak}});
    Json moments = Json::array();
    for (const auto& moment : inspection.moments)
        moments.push_back({moment.tokens, moment.held_bytes, moment.full_bytes});
    return {{"policy", inspection.policy},
            {"window", inspection.options.window},
            {"budget_tokens", inspection.memory.budget_tokens_per_layer},
            {"bytes_budget", inspection.memory.kv_bytes_budget},
            {"bytes_peak", inspection.memory.kv_bytes_peak},
            {"bytes_now", inspection.memory.kv_bytes_now},
            {"bytes_full", inspection.memory.kv_bytes_full_cache},
            {"devices", std::move(devices)},
            {"layers", std::move(layers)},
            {"stages", inspection.stages},
            {"kept", std::move(kept)},
            {"moments", std::move(moments)},
            {"answer", inspection.answer}};
}

/// JSON for a <script> element. '<' is escaped so that nothing in the data can close the element.
std::string in_script(const Json& data) {
    std::string text = json_text(data);
    for (size_t i = 0; (i = text.find('<', i)) != std::string::npos; i += 6) text.replace(i, 1, "\\u003c");
    return text;
}

void put(std::string& page, std::string_view mark, std::string_view content) {
    page.replace(page.find(mark), mark.size(), content);
}

}  // namespace

std::string inspection_page(const Engine& engine, const std::string& text_name, std::span<const Token> tokens,
                            std::span<const Inspection> inspections) {
    Json data{{"model", engine.info().name.empty() ? engine.info().path : engine.info().name},
              {"text", text_name},
              {"tokens", token_texts(engine, tokens)},
              {"policies", Json::array()}};
    for (const auto& inspection : inspections) data["policies"].push_back(of_inspection(inspection));
    std::string page(kInspectionPage);
    // Insert the data last, because a text may contain the other placeholders.
    put(page, "/*chart.js*/", kChartJs);
    put(page, "/*inspection.js*/", kInspectionJs);
    put(page, "{{data}}", in_script(data));
    return page;
}

}  // namespace cake::eval
