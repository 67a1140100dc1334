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
    int64_t first_line = 0;  // line number, from 1
    int64_t last_line = 0;
    std::string excerpt;  // text of the passage as one line
    double weight = 0;    // share of the attention to all documents
};

/// Finds the passages of the documents that an answer attended to most, given the attention to the tokens of the
/// prompt.
class SourceFinder {
  public:
    /// `prompt`: tokens of the message that contains `text`. `position`: position of the first of them in the sequence.
    /// `documents` must outlive the finder. Fails if the tokens do not spell the text.
    static Result<SourceFinder> create(const Engine& engine, std::span<const Token> prompt, int64_t position,
                                       const DocumentText& text, const std::vector<Document>& documents);

    /// Resets the attention to 0, for a new answer.
    void begin_answer();
    /// Adds the attention of `n_queries` tokens of the answer, a result of Sequence::attention_by_position().
    void add(std::span<const float> by_position, int64_t n_queries);
    /// The passages with the most attention, at most `n`, in descending order.
    std::vector<Source> best(size_t n) const;

  private:
    /// A token of a document that contains a letter or digit.
    struct Place {
        size_t position = 0;  // position in the sequence
        size_t document = 0;
        size_t begin = 0;  // byte range in the document
        size_t end = 0;
    };

    std::vector<double> smoothed() const;

    const std::vector<Document>* documents_ = nullptr;
    std::vector<Place> tokens_;
    std::vector<double> weights_;  // [tokens_.size()] attention of the current answer to each token
};

}  // namespace cake::cli
