#include "text/typed_text.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "text/utf8.hpp"

namespace cake {

namespace {

using Json = nlohmann::ordered_json;

// Marks: the noncharacters U+FDD0 to U+FDEF, which have no meaning in a text.
constexpr uint32_t kFirstMark = 0xFDD0;
constexpr size_t kMarks = 32;
// A byte b that is not UTF-8 is replaced with the character U+10FE00 + b.
constexpr uint32_t kBytes = 0x10FE00;

bool is_byte(uint32_t character) {
    return character >= kBytes && character < kBytes + 256;
}

std::string utf8(uint32_t character) {
    const auto rest = [&](uint32_t shift) { return static_cast<char>(0x80U | ((character >> shift) & 0x3FU)); };
    if (character < 0x10000) return {static_cast<char>(0xE0U | (character >> 12U)), rest(6), rest(0)};
    return {static_cast<char>(0xF0U | (character >> 18U)), rest(12), rest(6), rest(0)};
}

/// Marks and replacements of bytes that a conversation already contains.
struct Held {
    std::array<bool, kMarks> marks{};
    bool bytes = false;

    void add(std::string_view text) {
        for (size_t at = 0; at < text.size(); at++) {
            const auto byte = static_cast<unsigned char>(text[at]);
            if (byte != 0xEF && byte != 0xF4) continue;  // first bytes of these characters
            const uint32_t character = utf8_character(text, at).value;
            if (character >= kFirstMark && character < kFirstMark + kMarks) marks[character - kFirstMark] = true;
            bytes = bytes || is_byte(character);
        }
    }

    void add(const Json& value) {
        if (value.is_string()) return add(std::string_view(value.get_ref<const std::string&>()));
        if (!value.is_structured()) return;
        for (const auto& [key, inner] : value.items()) {
            if (value.is_object()) add(std::string_view(key));
            add(inner);
        }
    }
};

bool is_word(std::string_view text) {
    return std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; });
}

}  // namespace

ChatText ChatText::from(size_t begin) const {
    ChatText rest{.text = text.substr(begin), .typed = {}, .is_open = is_open};
    for (const size_t at : typed)
        if (at > begin) rest.typed.push_back(at - begin);
    return rest;
}

Result<TypedMarks> TypedMarks::choose(const ControlTexts& controls, const Json& conversation) {
    Held held;
    held.add(conversation);
    const auto unused = std::ranges::find(held.marks, false);
    if (unused == held.marks.end())
        return fail("the conversation contains all of the noncharacters U+FDD0 to U+FDEF: leave one of them out");
    return TypedMarks(controls, utf8(kFirstMark + static_cast<uint32_t>(unused - held.marks.begin())), !held.bytes);
}

Json TypedMarks::mark(const Json& value) const {
    if (value.is_string()) return mark(std::string_view(value.get_ref<const std::string&>()));
    if (!value.is_structured()) return value;
    Json marked = value.is_object() ? Json::object() : Json::array();
    for (const auto& [key, inner] : value.items()) {
        if (!value.is_object())
            marked.push_back(mark(inner));
        else if (key == "role" && inner.is_string() && is_word(inner.get_ref<const std::string&>()))
            marked[key] = inner;
        else
            marked[mark(std::string_view(key))] = mark(inner);
    }
    return marked;
}

std::string TypedMarks::mark(std::string_view text) const {
    // The text that the template appends could complete a name that begins at the end. Spaces at the end are ignored,
    // because the template may trim them.
    const size_t end = text.find_last_not_of(" \t\r\n") + 1;
    const size_t longest = controls_->max_bytes();
    std::string marked;
    marked.reserve(text.size());
    for (size_t at = 0; at < text.size();) {
        const auto character = utf8_character(text, at);
        const bool is_typed = controls_->longest_at(text, at).n_bytes > 0 ||
                              (at < end && end - at < longest && controls_->is_begun_by(text.substr(at, end - at)));
        const size_t n = std::max<size_t>(character.n_bytes, 1);
        if (character.n_bytes > 0)
            marked += text.substr(at, n);
        else
            marked += keeps_bytes_ ? utf8(kBytes + static_cast<unsigned char>(text[at])) : "\uFFFD";
        if (is_typed) marked += mark_;
        at += n;
    }
    return marked;
}

ChatText TypedMarks::unmark(std::string_view marked) const {
    ChatText result;
    result.text.reserve(marked.size());
    for (size_t at = 0; at < marked.size();) {
        if (marked.substr(at).starts_with(mark_)) {
            result.typed.push_back(result.text.size());
            at += mark_.size();
            continue;
        }
        const auto character = utf8_character(marked, at);
        const size_t n = std::max<size_t>(character.n_bytes, 1);
        if (keeps_bytes_ && is_byte(character.value))
            result.text += static_cast<char>(character.value - kBytes);
        else
            result.text += marked.substr(at, n);
        at += n;
    }
    return result;
}

}  // namespace cake
