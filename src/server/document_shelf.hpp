#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "engine/conversation_note.hpp"

namespace cake::server {

/// A document that `cake read` has saved, which prompts of any client may begin with.
struct SharedDocument {
    SavedText file;
    SequenceOptions sequence;           // options that it was read with
    std::vector<ChatMessage> messages;  // the last one contains the document and is continued by the question
    std::vector<Token> tokens;          // [file.n_tokens] as they were read
};

/// The folder of documents that a server offers by name. All functions may be called from any thread.
class DocumentShelf {
  public:
    /// `folder`: empty if there are none. `chat`: options of the chat template, with which the documents were read.
    DocumentShelf(const Engine& engine, std::string folder, ChatOptions chat)
        : engine_(engine), folder_(std::move(folder)), chat_(std::move(chat)) {}

    using Found = Result<std::shared_ptr<const SharedDocument>>;

    /// The document in FOLDER/NAME.kv. Fails if there is none, or if this model cannot continue it.
    Found find(const std::string& name);
    /// The same for all files in the folder, by name.
    std::vector<std::pair<std::string, Found>> find_all();
    /// Why the server can never answer about a document: it does not fit into its memory or context. Empty if it can.
    std::string problem_of(const SharedDocument& document, const BatcherLimits& limits) const;

  private:
    /// What was found in a file; files that cannot be used are remembered, too.
    struct Known {
        int64_t changed = 0;  // time of the file's last change
        uint64_t n_bytes = 0;
        Found found;
    };

    std::vector<std::string> names();
    Found look(const std::string& name);
    Found open(const std::string& name, const std::string& path) const;

    Engine engine_;
    std::string folder_;
    ChatOptions chat_;
    std::mutex mutex_;
    std::map<std::string, Known> known_;
};

}  // namespace cake::server
