#include "cli/sources.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <numeric>
#include <string_view>
#include <utility>

namespace cake::cli {

namespace {

/// True if a token contains a letter or digit. Attention to other tokens says nothing about a passage, because models
/// attend to full stops and line breaks regardless of the content.
bool has_word(std::string_view bytes) {
    return std::ranges::any_of(bytes, [](unsigned char byte) { return byte >= 0x80 || std::isalnum(byte) != 0; });
}

/// True if a sentence or a paragraph ends with byte `at`.
bool ends_sentence(std::string_view text, size_t at) {
    const bool before_space = at + 1 >= text.size() || text[at + 1] == ' ' || text[at + 1] == '\n';
    if (text[at] == '\n') return at + 1 >= text.size() || text[at + 1] == '\n';
    return (text[at] == '.' || text[at] == '!' || text[at] == '?') && before_space;
}

bool is_space(char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0;
}

size_t sentence_begin(std::string_view text, size_t at, size_t max_bytes) {
    const size_t least = at - std::min(at, max_bytes);
    size_t begin = at;
    while (begin > least && !ends_sentence(text, begin - 1)) begin--;
    // Cut a longer sentence between two words.
    if (begin == least && begin > 0 && !ends_sentence(text, begin - 1))
        while (begin < at && !is_space(text[begin])) begin++;
    while (begin < at && is_space(text[begin])) begin++;
    return begin;
}

/// The offset after the last byte of the sentence.
size_t sentence_end(std::string_view text, size_t at, size_t max_bytes) {
    const size_t most = std::min(text.size(), at + max_bytes);
    size_t end = at + 1;
    while (end < most && !ends_sentence(text, end - 1)) end++;
    if (end == most && end < text.size() && !ends_sentence(text, end - 1))
        while (end > at + 1 && !is_space(text[end - 1])) end--;
    while (end > at + 1 && is_space(text[end - 1])) end--;
    return end;
}

bool ends_paragraph(std::string_view text, size_t at) {
    const auto rest = text.substr(at);
    return rest.find_first_not_of(" \t\r\n") == std::string_view::npos ||
           rest.substr(0, rest.find_first_not_of(" \t\r\n")).contains("\n\n");
}

/// The byte range of the sentence around byte `at`. If it is short, the next sentences of its paragraph are included.
std::pair<size_t, size_t> passage_around(std::string_view text, size_t at) {
    constexpr size_t kMaxBytes = 240;
    constexpr size_t kMinBytes = 80;
    const size_t begin = sentence_begin(text, at, kMaxBytes);
    size_t end = sentence_end(text, at, kMaxBytes);
    while (end - begin < kMinBytes && !ends_paragraph(text, end))
        end = sentence_end(text, text.find_first_not_of(" \t\r\n", end), kMaxBytes);
    return {begin, end};
}

std::string in_one_line(std::string_view text) {
    std::string line;
    for (const char c : text) {
        if (!is_space(c))
            line += c;
        else if (!line.empty() && line.back() != ' ')
            line += ' ';
    }
    return line;
}

int64_t line_of(std::string_view text, size_t at) {
    return 1 + std::ranges::count(text.substr(0, at), '\n');
}

}  // namespace

Result<SourceFinder> SourceFinder::create(const Engine& engine, std::span<const Token> prompt, int64_t position,
                                          const DocumentText& text, const std::vector<Document>& documents) {
    std::string spelt;
    std::vector<size_t> begins;  // [n_tokens + 1] byte offset of each token in `spelt`, and of the end
    for (const Token token : prompt) {
        begins.push_back(spelt.size());
        spelt += engine.piece(token);
    }
    begins.push_back(spelt.size());
    const size_t begin = spelt.find(text.text);
    if (begin == std::string::npos)
        return fail(
            "the sources of the answer cannot be determined: the model's vocabulary changes the text; leave out "
            "--sources");
    SourceFinder finder;
    finder.documents_ = &documents;
    size_t document = 0;
    for (size_t i = 0; i < prompt.size(); i++) {
        while (document < documents.size() && begins[i] >= begin + text.places[document].end) document++;
        if (document == documents.size()) break;
        const size_t first = begin + text.places[document].begin;
        if (begins[i + 1] <= first || !has_word(std::string_view(spelt).substr(begins[i], begins[i + 1] - begins[i])))
            continue;
        finder.tokens_.push_back({.position = static_cast<size_t>(position) + i,
                                  .document = document,
                                  .begin = std::max(begins[i], first) - first,
                                  .end = begins[i + 1] - first});
    }
    finder.begin_answer();
    return finder;
}

void SourceFinder::begin_answer() {
    weights_.assign(tokens_.size(), 0);
}

void SourceFinder::add(std::span<const float> by_position, int64_t n_queries) {
    for (size_t i = 0; i < tokens_.size(); i++)
        weights_[i] += static_cast<double>(by_position[tokens_[i].position]) * static_cast<double>(n_queries);
}

/// For each token, the sum of its weight and those of its neighbours, because a passage consists of several tokens.
std::vector<double> SourceFinder::smoothed() const {
    constexpr size_t kRadius = 4;
    std::vector<double> result(tokens_.size());
    for (size_t i = 0; i < tokens_.size(); i++) {
        const size_t end = std::min(i + kRadius + 1, tokens_.size());
        for (size_t j = i - std::min(i, kRadius); j < end; j++)
            if (tokens_[j].document == tokens_[i].document) result[i] += weights_[j];
    }
    return result;
}

std::vector<Source> SourceFinder::best(size_t n) const {
    std::vector<Source> sources;
    auto scores = smoothed();
    const double total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    while (sources.size() < n && !scores.empty()) {
        const auto peak = static_cast<size_t>(std::ranges::max_element(scores) - scores.begin());
        if (!(scores[peak] > 0)) break;
        const auto& token = tokens_[peak];
        const auto& document = (*documents_)[token.document];
        const auto [begin, end] = passage_around(document.text, token.begin);
        double weight = 0;
        for (size_t i = 0; i < tokens_.size(); i++) {
            const bool inside =
                tokens_[i].document == token.document && tokens_[i].end > begin && tokens_[i].begin < end;
            if (!inside) continue;
            weight += weights_[i];
            scores[i] = 0;
        }
        sources.push_back({.document = document.name,
                           .first_line = line_of(document.text, begin),
                           .last_line = line_of(document.text, end - 1),
                           .excerpt = in_one_line(std::string_view(document.text).substr(begin, end - begin)),
                           .weight = weight / total});
    }
    return sources;
}

}  // namespace cake::cli
