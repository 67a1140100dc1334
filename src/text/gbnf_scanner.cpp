#include "text/gbnf_scanner.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "text/utf8.hpp"

namespace cake {

namespace {

constexpr uint32_t kMaxTimes = 256;

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

}  // namespace

bool GbnfScanner::is_of_a_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-';
}

bool GbnfScanner::wrong(std::string_view sentence) {
    const auto line = 1 + std::ranges::count(text.substr(0, at), '\n');
    error = fmt::format("the grammar's line {}: {}", line, sentence);
    return false;
}

void GbnfScanner::skip_space(bool lines) {
    for (;;) {
        const char c = peek();
        if (c == '#') {
            while (at < text.size() && peek() != '\n' && peek() != '\r') at++;
        } else if (c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'))) {
            at++;
        } else {
            return;
        }
    }
}

std::string_view GbnfScanner::name() {
    const size_t begin = at;
    while (is_of_a_name(peek())) at++;
    return text.substr(begin, at - begin);
}

bool GbnfScanner::character(uint32_t& value, std::string_view in) {
    if (at >= text.size()) return wrong(fmt::format("{} is not closed", in));
    if (peek() != '\\') {
        const auto read = utf8_character(text, at);
        value = read.value;
        at += std::max(read.n_bytes, 1U);
        return true;
    }
    const char escape = peek(1);
    at += 2;
    switch (escape) {
        case 'x':
            return hexadecimal(value, 2);
        case 'u':
            return hexadecimal(value, 4);
        case 'U':
            return hexadecimal(value, 8);
        case 'n':
            value = '\n';
            return true;
        case 'r':
            value = '\r';
            return true;
        case 't':
            value = '\t';
            return true;
        case '\\':
        case '"':
        case '[':
        case ']':
        case '-':
            value = static_cast<unsigned char>(escape);
            return true;
        default:
            break;
    }
    at = std::min(at, text.size());
    return wrong("a backslash must be followed by one of x u U n r t \\ \" [ ] -");
}

bool GbnfScanner::hexadecimal(uint32_t& value, size_t n_digits) {
    constexpr std::string_view kDigits = "0123456789abcdef0123456789ABCDEF";
    value = 0;
    for (size_t i = 0; i < n_digits; i++) {
        const auto digit = at < text.size() ? kDigits.find(text[at]) : std::string_view::npos;
        if (digit == std::string_view::npos)
            return wrong(fmt::format("this escape must be followed by {} hexadecimal digits", n_digits));
        value = value * 16 + static_cast<uint32_t>(digit % 16);
        at++;
    }
    return value <= kLastCharacter || wrong("a character beyond U+10FFFF does not exist");
}

bool GbnfScanner::times(uint32_t& least, std::optional<uint32_t>& most) {
    constexpr std::string_view kHow = "a repetition is written {2}, {2,} or {2,5}";
    at++;
    skip_space(false);
    if (!number(least)) return error.empty() && wrong(kHow);
    skip_space(false);
    most = least;
    if (peek() == ',') {
        at++;
        skip_space(false);
        most.reset();
        if (uint32_t n = 0; number(n)) {
            most = n;
        } else if (!error.empty()) {
            return false;
        }
        skip_space(false);
    }
    if (peek() != '}') return wrong(kHow);
    at++;
    if (most && *most < least) return wrong("a repetition must go from the smaller number to the larger");
    return true;
}

bool GbnfScanner::number(uint32_t& value) {
    if (!is_digit(peek())) return false;
    value = 0;
    while (is_digit(peek())) {
        value = value * 10 + static_cast<uint32_t>(peek() - '0');
        if (value > kMaxTimes) return wrong(fmt::format("a repetition of more than {} is not accepted", kMaxTimes));
        at++;
    }
    return true;
}

}  // namespace cake
