#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cake/engine.hpp"
#include "cli/documents.hpp"

namespace cake::cli {

/// A passage of a document that an answer attended to.
struct Source {
    std::string document;
    int64_t first_line = 0;  // from 1
    int64_t last_line = 0;
    std::string excerpt;  // in one line
    double weight = 0;    // share of the attention to all documents
};

/// Finds the passages of the documents that an answer attended to most, from the attention to the tokens of the prompt.
class SourceFinder {
  public:
    /// `prompt`: the tokens of the message with `text`, the first of which is at `position` of the sequence;
    /// `documents` have to outlive the finder. Fails if the tokens do not spell the text.
    static Result<SourceFinder> create(const Engine& engine, std::span<const Token> prompt, int64_t position,
                                       const DocumentText& text, const std::vector<Document>& documents);

    /// Forgets the attention of the answer before.
    void begin_answer();
    /// Adds what Sequence::attention_by_position() says of `n_queries` tokens of the answer.
    void add(std::span<const float> by_position, int64_t n_queries);
    /// The best passages, at most `n`, best first.
    std::vector<Source> best(size_t n) const;

  private:
    /// A token of a document with a letter or digit in it.
    struct Place {
        size_t position = 0;  // in the sequence
        size_t document = 0;
        size_t begin = 0;  // bytes in it
        size_t end = 0;
    };

    std::vector<double> smoothed() const;

    const std::vector<Document>* documents_ = nullptr;
    std::vector<Place> tokens_;
    std::vector<double> weights_;  // [n_tokens]
};

}  // namespace cake::cli
