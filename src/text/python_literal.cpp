#include "text/python_literal.hpp"
#include "text/white_space.hpp"

#include <algorithm>
#include <cctype>
#include <utility>

namespace cake {

namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxLiteralDepth = 64;

std::optional<Json> some(Json value) {
    return std::optional<Json>(std::in_place, std::move(value));
}

bool is_name_part(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.';
}

/// The character that a letter stands for after a backslash; nothing if the backslash remains.
std::optional<char> escaped(char c) {
    switch (c) {
        case 'n':
            return '\n';
        case 't':
            return '\t';
        case 'r':
            return '\r';
        case '\\':
        case '\'':
        case '"':
        case '/':
            return c;
        default:
            return std::nullopt;
    }
}

}  // namespace

void PythonReader::skip_space() {
    at_ += n_spaces(text_.substr(at_));
}

bool PythonReader::take(char mark) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != mark) return false;
    at_++;
    return true;
}

bool PythonReader::at_end() {
    skip_space();
    return at_ == text_.size();
}

std::string PythonReader::name() {
    skip_space();
    const size_t begin = at_;
    while (at_ < text_.size() && is_name_part(text_[at_])) at_++;
    return std::string(text_.substr(begin, at_ - begin));
}

std::optional<Json> PythonReader::string() {
    const char quote = text_[at_++];
    std::string value;
    while (at_ < text_.size() && text_[at_] != quote) {
        if (text_[at_] != '\\' || at_ + 1 == text_.size()) {
            value += text_[at_++];
            continue;
        }
        // \u and \x are as JSON and Python have them; JSON's own reader knows the former.
        if (text_[at_ + 1] == 'u') {
            constexpr size_t kBytes = 6;
            size_t n = kBytes;
            if (text_.substr(std::min(at_ + n, text_.size())).starts_with("\\u"))
                n += kBytes;  // perhaps the second half of a pair
            auto read = Json::parse("\"" + std::string(text_.substr(at_, n)) + "\"", nullptr, false);
            if (!read.is_string() && n > kBytes)
                read = Json::parse("\"" + std::string(text_.substr(at_, n = kBytes)) + "\"", nullptr, false);
            if (!read.is_string()) return std::nullopt;
            value += read.get<std::string>();
            at_ += n;
            continue;
        }
        const auto meant = escaped(text_[at_ + 1]);
        if (meant)
            value += *meant;
        else
            value += text_.substr(at_, 2);
        at_ += 2;
    }
    if (at_ == text_.size()) return std::nullopt;
    at_++;
    return some(value);
}

std::optional<Json> PythonReader::word_or_number() {
    const size_t begin = at_;
    while (at_ < text_.size() && (is_name_part(text_[at_]) || text_[at_] == '+')) at_++;
    const auto word = text_.substr(begin, at_ - begin);
    if (word == "True" || word == "true") return some(true);
    if (word == "False" || word == "false") return some(false);
    if (word == "None" || word == "null") return some(nullptr);
    auto number = Json::parse(word, nullptr, false);
    if (!number.is_number()) return std::nullopt;
    return some(std::move(number));
}

std::optional<Json> PythonReader::list(int depth) {
    Json items = Json::array();
    at_++;
    while (!take(']')) {
        if (!items.empty() && !take(',')) return std::nullopt;
        if (!items.empty() && take(']')) break;  // a comma behind the last item
        auto item = value(depth + 1);
        if (!item) return std::nullopt;
        items.push_back(std::move(*item));
    }
    return some(std::move(items));
}

std::optional<Json> PythonReader::dictionary(int depth) {
    Json entries = Json::object();
    at_++;
    while (!take('}')) {
        if (!entries.empty() && !take(',')) return std::nullopt;
        if (!entries.empty() && take('}')) break;
        const auto key = value(depth + 1);
        if (!key || !key->is_string() || !take(':')) return std::nullopt;
        auto entry = value(depth + 1);
        if (!entry) return std::nullopt;
        entries[key->get<std::string>()] = std::move(*entry);
    }
    return some(std::move(entries));
}

std::optional<Json> PythonReader::value(int depth) {
    skip_space();
    if (at_ == text_.size() || depth > kMaxLiteralDepth) return std::nullopt;
    switch (text_[at_]) {
        case '"':
        case '\'':
            return string();
        case '[':
            return list(depth);
        case '{':
            return dictionary(depth);
        default:
            return word_or_number();
    }
}

}  // namespace cake
