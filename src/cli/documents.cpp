#include "cli/documents.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "cli/input.hpp"

namespace cake::cli {

namespace {

Result<Document> read_document(const std::string& path) {
    Document document{.name = path == "-" ? "standard input" : path, .text = {}};
    auto text = read_file(path);
    if (!text) return std::unexpected(text.error());
    if (text->starts_with("%PDF-"))
        return fail(document.name + ": is a PDF; convert it to text first, for example with pdftotext");
    if (text->contains('\0')) return fail(document.name + ": contains a zero byte: is it a text file?");
    if (text->find_first_not_of(" \t\r\n") == std::string::npos)
        return fail(document.name + ": is empty: there is nothing to ask about");
    document.text = std::move(*text);
    return document;
}

/// The name of a document in the prompt: without folders, which mean nothing to a model.
std::string shown_name(const Document& document) {
    return std::filesystem::path(document.name).filename().string();
}

}  // namespace

Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths) {
    std::vector<Document> documents;
    for (const auto& path : paths) {
        auto document = read_document(path);
        if (!document) return std::unexpected(document.error());
        documents.push_back(std::move(*document));
    }
    return documents;
}

DocumentText::DocumentText(const std::vector<Document>& documents, const std::vector<std::string>& questions) {
    for (const auto& document : documents) {
        text += fmt::format("Document {}:\n\n", shown_name(document));
        const std::string_view content(document.text.data(), document.text.find_last_not_of(" \t\r\n") + 1);
        places.push_back({.begin = text.size(), .end = text.size() + content.size()});
        text += content;
        text += "\n\n";
    }
    text += documents.size() == 1 ? "End of the document.\n\n" : "End of the documents.\n\n";
    list_begin = text.size();
    if (questions.size() < 2) return;
    text += "Questions:\n";
    for (size_t i = 0; i < questions.size(); i++) text += fmt::format("{}. {}\n", i + 1, questions[i]);
    text += '\n';
}

}  // namespace cake::cli
