#include "eval/results.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

namespace cake::eval {

namespace {

std::string shown_budget(const Row& row) {
    return row.budget > 0 ? std::to_string(row.budget) : "all";
}

std::string shown(const Figure& figure) {
    return figure.interval
               ? fmt::format("{:.3f} ({:.3f}–{:.3f})", figure.value, figure.interval->low, figure.interval->high)
               : fmt::format("{:.3f}", figure.value);
}

/// Number of characters, for alignment.
size_t width(const std::string& text) {
    return static_cast<size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// A field of a CSV line, quoted if necessary.
std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
    return quoted + "\"";
}

}  // namespace

std::string to_table(const std::vector<Row>& rows) {
    const auto any = [&](auto has) { return std::ranges::any_of(rows, has); };
    const bool subtasks = any([](const Row& r) { return !r.subtask.empty(); });
    const bool lengths = any([](const Row& r) { return r.length_tokens > 0; });
    std::vector<double> depths;
    for (const auto& row : rows) {
        if (row.depth >= 0 && !std::ranges::contains(depths, row.depth)) depths.push_back(row.depth);
    }
    std::vector<std::vector<std::string>> cells(1, {"policy", "budget"});
    if (subtasks) cells[0].emplace_back("subtask");
    if (lengths) cells[0].emplace_back("length");
    cells[0].emplace_back("samples");
    if (!rows.empty()) {
        for (const auto& figure : rows.front().figures) cells[0].push_back(figure.name + " (95 %)");
    }
    for (const double depth : depths) cells[0].push_back(fmt::format("at {:.0f}%", depth * 100));
    for (const auto& row : rows) {
        if (row.depth >= 0) continue;
        auto& line = cells.emplace_back(std::vector<std::string>{row.policy, shown_budget(row)});
        if (subtasks) line.push_back(row.subtask);
        if (lengths) line.push_back(std::to_string(row.length_tokens));
        line.push_back(std::to_string(row.n_samples));
        for (const auto& figure : row.figures) line.push_back(shown(figure));
        for (const double depth : depths) {
            const auto found = std::ranges::find_if(rows, [&](const Row& r) {
                return r.depth == depth && r.policy == row.policy && r.budget == row.budget &&
                       r.subtask == row.subtask && r.length_tokens == row.length_tokens;
            });
            line.push_back(found == rows.end() ? "" : fmt::format("{:.2f}", found->figures.front().value));
        }
    }

    std::vector<size_t> widths(cells[0].size(), 0);
    for (const auto& line : cells) {
        for (size_t i = 0; i < line.size(); i++) widths[i] = std::max(widths[i], width(line[i]));
    }
    std::string text;
    for (size_t row = 0; row < cells.size(); row++) {
        for (size_t i = 0; i < widths.size(); i++)
            text += "| " + cells[row][i] + std::string(widths[i] - width(cells[row][i]) + 1, ' ');
        text += "|\n";
        if (row > 0) continue;
        for (const size_t w : widths) text += "| " + std::string(w, '-') + " ";
        text += "|\n";
    }
    return text;
}

std::string to_csv(const std::vector<Row>& rows) {
    std::string text = "policy,budget,subtask,length,depth,samples";
    if (!rows.empty()) {
        for (const auto& figure : rows.front().figures) {
            text += fmt::format(",{0},{0}_low,{0}_high", figure.name);
        }
    }
    text += '\n';
    for (const auto& row : rows) {
        text +=
            fmt::format("{},{},{},{},{},{}", csv_field(row.policy), row.budget, csv_field(row.subtask),
                        row.length_tokens, row.depth < 0 ? std::string() : fmt::format("{}", row.depth), row.n_samples);
        for (const auto& figure : row.figures) {
            text += fmt::format(",{}", figure.value);
            text += figure.interval ? fmt::format(",{},{}", figure.interval->low, figure.interval->high) : ",,";
        }
        text += '\n';
    }
    return text;
}

std::string to_json(const std::vector<Row>& rows, const std::string& task, const std::string& model) {
    nlohmann::ordered_json object = {{"task", task}, {"model", model}, {"rows", nlohmann::ordered_json::array()}};
    for (const auto& row : rows) {
        nlohmann::ordered_json line = {{"policy", row.policy}, {"budget", row.budget}, {"samples", row.n_samples}};
        if (!row.subtask.empty()) line["subtask"] = row.subtask;
        if (row.length_tokens > 0) line["length"] = row.length_tokens;
        if (row.depth >= 0) line["depth"] = row.depth;
        for (const auto& figure : row.figures) {
            line[figure.name] = figure.value;
            if (figure.interval) line[figure.name + "_interval"] = {figure.interval->low, figure.interval->high};
        }
        object["rows"].push_back(std::move(line));
    }
    return object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace cake::eval
