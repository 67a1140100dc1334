#include "cli/document_file.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <optional>

#include "text/bounded_json.hpp"
#include "text/json_text.hpp"

namespace cake::cli {

using Json = nlohmann::json;

std::string write_document_note(const std::vector<Document>& documents, const DocumentText& text) {
    Json list = Json::array();
    for (size_t i = 0; i < documents.size(); i++) {
        const auto& place = text.places[i];
        list.push_back({{"name", documents[i].name}, {"begin", place.begin}, {"end", place.end}});
    }
    return json_text(Json{{"documents", std::move(list)}});
}

Result<SavedDocuments> saved_documents(const Dialog& dialog, const std::string& path) {
    SavedDocuments saved;
    saved.text.text = dialog.begun_text();
    saved.text.list_begin = saved.text.text.size();
    const auto add = [&](const std::string& name, size_t begin, size_t end) {
        saved.documents.push_back({.name = name, .text = saved.text.text.substr(begin, end - begin)});
        saved.text.places.push_back({.begin = begin, .end = end});
    };
    constexpr int kDepth = 3;
    const auto note = parse_bounded<Json>(dialog.note(), kDepth);
    if (!note || !note->is_object() || !note->contains("documents")) {
        add(path, 0, saved.text.text.size());
        return saved;
    }
    for (const auto& one : (*note)["documents"]) {
        const auto number = [&](const char* key, size_t least) -> std::optional<size_t> {
            const Json value = one.is_object() ? one.value(key, Json()) : Json();
            if (!value.is_number_unsigned()) return std::nullopt;
            const auto n = value.get<uint64_t>();
            return n >= least && n <= saved.text.text.size() ? std::optional(static_cast<size_t>(n)) : std::nullopt;
        };
        const auto begin = number("begin", saved.text.places.empty() ? 0 : saved.text.places.back().end);
        const auto end = begin ? number("end", *begin + 1) : std::nullopt;
        const Json name = one.is_object() ? one.value("name", Json()) : Json();
        if (!end || !name.is_string())
            return fail(Error::Code::corrupt,
                        fmt::format("{}: its list of documents is damaged: read the documents again", path));
        add(name.get<std::string>(), *begin, *end);
    }
    return saved;
}

}  // namespace cake::cli
