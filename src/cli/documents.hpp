#pragma once

#include <string>
#include <vector>

#include "cake/error.hpp"

namespace cake::cli {

struct Document {
    std::string name;
    std::string text;
};

/// Reads each file, "-" for standard input. What is no text or has nothing in it is refused.
Result<std::vector<Document>> read_documents(const std::vector<std::string>& paths);

/// Where a document lies in a text, in bytes.
struct DocumentPlace {
    size_t begin = 0;
    size_t end = 0;
};

/// What comes before the first question: the documents, each after its name, and if there are several questions, a list
/// of them, so that what is kept of the documents is judged by all.
struct DocumentText {
    std::string text;
    std::vector<DocumentPlace> places;  // [n_documents]
    size_t list_begin = 0;              // of the questions

    DocumentText(const std::vector<Document>& documents, const std::vector<std::string>& questions);
};

}  // namespace cake::cli
