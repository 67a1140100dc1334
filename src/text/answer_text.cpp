#include "text/answer_text.hpp"

#include <algorithm>

#include "text/begun.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

/// Max number of bytes at the end of `text` that begin one of `words` without completing it.
size_t begun(std::string_view text, const std::vector<std::string>& words) {
    size_t most = 0;
    for (const auto& word : words) most = std::max(most, n_begun(text, word));
    return most;
}

}  // namespace

std::string to_utf8(std::string_view bytes) {
    std::string text;
    for (size_t at = 0; at < bytes.size();) {
        const size_t n = utf8_character(bytes, at).n_bytes;
        text += n > 0 ? bytes.substr(at, n) : "\xEF\xBF\xBD";
        at += std::max<size_t>(n, 1);
    }
    return text;
}

std::vector<std::string> texts_of(std::vector<std::string> pieces) {
    AnswerText text({});
    for (auto& piece : pieces) piece = text.add(piece);
    if (!pieces.empty()) pieces.back() += text.finish();
    return pieces;
}

std::string AnswerText::add(std::string_view bytes) {
    if (stopped_) return {};
    bytes_ += bytes;
    size_t first = std::string::npos;
    for (const auto& word : stop_) {
        const size_t at = bytes_.find(word);
        if (at >= first) continue;
        first = at;
        stopped_by_ = word;
    }
    if (first != std::string::npos) {
        stopped_ = true;
        bytes_.resize(first);
        return finish();
    }
    const size_t n = bytes_.size() - std::max(begun(bytes_, stop_), bytes_begun(bytes_));
    auto text = to_utf8(std::string_view(bytes_).substr(0, n));
    bytes_.erase(0, n);
    return text;
}

std::string_view AnswerText::held() const {
    return std::string_view(bytes_).substr(0, bytes_.size() - bytes_begun(bytes_));
}

std::string AnswerText::finish() {
    auto text = to_utf8(bytes_);
    bytes_.clear();
    return text;
}

}  // namespace cake
