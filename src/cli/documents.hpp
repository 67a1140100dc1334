#pragma once

#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::cli {

struct Document {
    std::string name;
    std::string text;
};

/// Reads each file; "-" is standard input. Fails if a file is not a text or is empty.
Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths);

/// Byte range of a document in DocumentText::text.
struct DocumentPlace {
    size_t begin = 0;
    size_t end = 0;
};

/// The text before the first question: the documents, each after its name, and a line that ends them. If there are
/// several questions, a list of them follows, so that all of them influence which tokens of the documents are kept.
struct DocumentText {
    std::string text;
    std::vector<DocumentPlace> places;  // [n_documents]
    size_t list_begin = 0;              // byte offset of the list of questions

    DocumentText() = default;
    DocumentText(const std::vector<Document>& documents, const std::vector<std::string>& questions);
};

}  // namespace cake::cli
