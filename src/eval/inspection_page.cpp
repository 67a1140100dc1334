#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "eval/inspection.hpp"
#include "eval/page_parts.hpp"
#include "text/answer_text.hpp"
#include "text/json_text.hpp"
#include "text/optional_json.hpp"

namespace cake::eval {

namespace {

using Json = nlohmann::ordered_json;

/// One string per layer with one character per token: '0' plus the number of KV heads that hold it.
Json counts_by_token(const Inspection& inspection, size_t n_tokens) {
    Json lines = Json::array();
    for (const auto& heads : inspection.held) {
        std::string line(n_tokens, '0');
        for (const auto& positions : heads)
            for (const int32_t position : positions) {
                char& count = line[static_cast<size_t>(position)];
                if (count < '0' + 70) count++;
            }
        lines.push_back(std::move(line));
    }
    return lines;
}

/// The number of tokens that each KV head holds, [n_layer][n_head_kv].
Json counts_by_head(const Inspection& inspection) {
    Json layers = Json::array();
    for (const auto& heads : inspection.held) {
        Json counts = Json::array();
        for (const auto& positions : heads) counts.push_back(positions.size());
        layers.push_back(std::move(counts));
    }
    return layers;
}

/// The number of tokens that each KV head holds under both policies, [n_layer][n_head_kv].
Json counts_in_common(const Inspection& first, const Inspection& second) {
    Json layers = Json::array();
    for (size_t layer = 0; layer < first.held.size(); layer++) {
        Json counts = Json::array();
        for (size_t head = 0; head < first.held[layer].size(); head++) {
            std::vector<int32_t> common;
            std::ranges::set_intersection(first.held[layer][head], second.held[layer][head],
                                          std::back_inserter(common));
            counts.push_back(common.size());
        }
        layers.push_back(std::move(counts));
    }
    return layers;
}

Json of_inspection(const Inspection& inspection, size_t n_tokens) {
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
            {"kept", counts_by_token(inspection, n_tokens)},
            {"heads", counts_by_head(inspection)},
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
    for (const auto& inspection : inspections) data["policies"].push_back(of_inspection(inspection, tokens.size()));
    if (inspections.size() == 2) data["common"] = counts_in_common(inspections[0], inspections[1]);
    std::string page(kInspectionPage);
    // Insert the data last, because a text may contain the other placeholders.
    put(page, "/*chart.js*/", kChartJs);
    put(page, "/*inspection.js*/", kInspectionJs);
    put(page, "{{data}}", in_script(data));
    return page;
}

}  // namespace cake::eval
