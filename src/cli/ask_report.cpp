#include "cli/ask_report.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "cli/report.hpp"

namespace cake::cli {

namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Answer& answer) {
    const auto n = static_cast<size_t>(answer.n_tokens);
    Json sources = Json::array();
    for (const auto& source : answer.sources) {
        sources.push_back({{"document", source.document},
                           {"first_line", source.first_line},
                           {"last_line", source.last_line},
                           {"weight", source.weight},
                           {"excerpt", source.excerpt}});
    }
    return {{"question", answer.question},
            {"text", answer.text},
            {"generated_tokens", n},
            {"finish_reason", answer.repeats_itself ? "repetition" : to_string(answer.finish_reason)},
            {"decode_tokens_per_second", n > 1 ? rate(n - 1, answer.seconds) : 0},
            {"sources", std::move(sources)}};
}

/// Shortens a text to at most `columns` UTF-8 characters, at the end of a word.
std::string shortened(const std::string& text, size_t columns) {
    const auto is_start = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80; };
    if (static_cast<size_t>(std::ranges::count_if(text, is_start)) <= columns) return text;
    size_t end = 0;
    size_t word_end = 0;
    for (size_t n = 0; n < columns; n++) {
        if (text[end] == ' ') word_end = end;
        for (end++; !is_start(text[end]); end++) {
        }
    }
    return text.substr(0, word_end > 0 ? word_end : end) + " …";
}

}  // namespace

std::string to_json(const AskReport& report, const Engine& engine, const Sequence& sequence) {
    Json object{{"model", engine.info().path},
                {"policy", report.policy},
                {"documents", report.documents},
                {"loaded_tokens", report.loaded_tokens},
                {"prompt_tokens", report.prompt_tokens},
                {"prefill_seconds", report.prefill_seconds},
                {"prefill_tokens_per_second", rate(static_cast<size_t>(report.prompt_tokens), report.prefill_seconds)}};
    object.update(held_json(sequence));
    object["answers"] = Json::array();
    for (const auto& answer : report.answers) object["answers"].push_back(to_json(answer));
    return object.dump(2, ' ', false, Json::error_handler_t::replace);
}

std::string summary(const AskReport& report, const Sequence& sequence) {
    const auto memory = sequence.memory();
    const auto kept = format_bytes(memory.kv_bytes_now);
    const auto full = format_bytes(memory.kv_bytes_full_cache);
    const auto held = memory.kv_bytes_now == memory.kv_bytes_full_cache
                          ? fmt::format("kept all {} of K/V", kept)
                          : fmt::format("kept {} of K/V instead of {} for a full cache", kept, full);
    const auto loaded =
        report.loaded_tokens > 0
            ? fmt::format("loaded {} tokens and ", format_count(static_cast<uint64_t>(report.loaded_tokens)))
            : std::string();
    return fmt::format("{}; {}read {} tokens in {}\n", held, loaded,
                       format_count(static_cast<uint64_t>(report.prompt_tokens)),
                       format_duration(report.prefill_seconds));
}

std::string shown(const std::vector<Source>& sources, size_t columns) {
    if (sources.empty()) return "\nSources: no passage stands out\n";
    std::string text = "\nSources:\n";
    for (size_t i = 0; i < sources.size(); i++) {
        const auto& source = sources[i];
        const auto lines = source.first_line == source.last_line
                               ? fmt::format("{}", source.first_line)
                               : fmt::format("{}-{}", source.first_line, source.last_line);
        text += fmt::format("  {}. {}:{}\n", i + 1, printable(source.document), lines);
        text += fmt::format("     {}\n", shortened(printable(source.excerpt), std::max<size_t>(columns, 40) - 7));
    }
    return text;
}

}  // namespace cake::cli
