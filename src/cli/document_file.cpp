#include "cli/document_file.hpp"

#include <format>

#include "engine/json_fields.hpp"
#include "text/json_text.hpp"

namespace cake::cli {

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
    const auto n_bytes = static_cast<int64_t>(saved.text.text.size());
    saved.text.list_begin = saved.text.text.size();
    const auto add = [&](const std::string& name, size_t begin, size_t end) {
        saved.documents.push_back({.name = name, .text = saved.text.text.substr(begin, end - begin)});
        saved.text.places.push_back({.begin = begin, .end = end});
    };
    const Json note = parse_json(dialog.note());
    if (!note.is_object() || !note.contains("documents") || !note["documents"].is_array()) {
        add(path, 0, saved.text.text.size());
        return saved;
    }
    for (const auto& one : note["documents"]) {
        Fields fields(one);
        std::string name;
        size_t begin = 0;
        size_t end = 0;
        const size_t least = saved.text.places.empty() ? 0 : saved.text.places.back().end;
        fields.text("name", name);
        fields.integer("begin", begin, static_cast<int64_t>(least), n_bytes);
        fields.integer("end", end, static_cast<int64_t>(begin), n_bytes);
        if (!fields.first_wrong().empty())
            return fail(Error::Code::corrupt,
                        std::format("{}: its list of documents is damaged: read the documents again", path));
        add(name, begin, end);
    }
    return saved;
}

}  // namespace cake::cli
