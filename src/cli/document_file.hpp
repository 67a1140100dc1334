#pragma once

#include <string>
#include <vector>

#include "cli/dialog.hpp"
#include "cli/documents.hpp"

namespace cake::cli {

/// Documents that `cake read` has saved, with the text that was read of them.
struct SavedDocuments {
    std::vector<Document> documents;
    DocumentText text;
};

/// The note that says which documents a text contains.
std::string write_document_note(const std::vector<Document>& documents, const DocumentText& text);

/// The documents in a dialog that was loaded from the file `path`. If its note does not name them, they are one
/// document with the name of the file.
Result<SavedDocuments> saved_documents(const Dialog& dialog, const std::string& path);

}  // namespace cake::cli
