#include "text/reply_reader.hpp"

#include <algorithm>
#include <utility>

#include "text/begun.hpp"
#include "text/tool_call_reader.hpp"
#include "text/white_space.hpp"

namespace cake {

namespace {

/// White space before a mark belongs to the mark, up to this length.
constexpr size_t kMaxSpace = 1024;

constexpr std::string_view kFence = "```json\n";

/// The text in a fence for code, if there is one.
std::string_view without_fence(std::string_view text) {
    constexpr std::string_view kEnd = "```";
    text.remove_prefix(n_spaces(text));
    if (!text.starts_with(kFence)) return text;
    text.remove_prefix(kFence.size());
    text.remove_suffix(n_spaces_at_end(text));
    if (text.ends_with(kEnd)) text.remove_suffix(kEnd.size());
    return text;
}

/// True if one of the texts begins with the other.
bool agree(std::string_view first, std::string_view second) {
    return first.starts_with(second) || second.starts_with(first);
}

}  // namespace

ReplyReader::ReplyReader(ReplyOptions options) : options_(std::move(options)) {
    if (options_.reasoning) {
        marks_.push_back({.text = options_.reasoning->begin, .next = Mode::reasoning});
        if (options_.begins_in_reasoning) mode_ = Mode::reasoning;
        skips_space_ = options_.begins_in_reasoning;
    }
    if (options_.format == nullptr) return;
    if (!options_.format->open.empty()) marks_.push_back({.text = options_.format->open, .next = Mode::call});
    for (const auto skipped : options_.format->skipped) marks_.push_back({.text = skipped, .next = Mode::content});
}

bool ReplyReader::needs(std::string_view text) const {
    const auto has = [&](std::string_view mark) { return mark.contains(text); };
    if (text.empty()) return false;
    if (options_.reasoning && has(options_.reasoning->end)) return true;
    if (std::ranges::any_of(marks_, has, &Mark::text)) return true;
    if (options_.format == nullptr) return false;
    const auto& format = *options_.format;
    const auto& syntax = format.syntax;
    return std::ranges::any_of(std::initializer_list{format.close, format.begin, format.end, syntax.before_name,
                                                     syntax.after_name, syntax.before_id, syntax.behind},
                               has);
}

std::vector<ReplyPart> ReplyReader::add(std::string_view text) {
    text_ += text;
    read(false);
    return std::exchange(parts_, {});
}

std::vector<ReplyPart> ReplyReader::finish() {
    read(true);
    return std::exchange(parts_, {});
}

void ReplyReader::read(bool is_last) {
    const auto step = [&] {
        switch (mode_) {
            case Mode::content:
                return read_content(is_last);
            case Mode::reasoning:
                return read_reasoning(is_last);
            case Mode::call:
                return read_call(is_last);
        }
        return false;
    };
    while (step()) {
    }
}

void ReplyReader::say(ReplyPart::Kind kind, std::string_view text) {
    if (text.empty()) return;
    if (kind == ReplyPart::Kind::content && n_spaces(text) < text.size()) is_start_ = false;
    if (parts_.empty() || parts_.back().kind != kind)
        parts_.push_back({.kind = kind, .text = std::string(text)});
    else
        parts_.back().text += text;
}

/// Reasoning comes before everything else, except for formats whose answers have several turns.
bool ReplyReader::may_reason_at(size_t at) const {
    if (options_.format != nullptr && !options_.format->turn.empty()) return true;
    return is_start_ && n_spaces(std::string_view(text_).substr(0, at)) == at;
}

std::optional<ReplyReader::Found> ReplyReader::find_mark(bool is_last) const {
    const std::string_view text = text_;
    for (size_t at = 0; at < text.size(); at++) {
        const auto rest = text.substr(at);
        const Mark* longest = nullptr;
        bool is_open = false;  // a longer mark may follow
        for (const auto& mark : marks_) {
            if (rest.front() != mark.text.front() || !agree(rest, mark.text)) continue;
            if (mark.next == Mode::reasoning && !may_reason_at(at)) continue;
            if (rest.size() < mark.text.size())
                is_open = !is_last;
            else if (longest == nullptr || mark.text.size() > longest->text.size())
                longest = &mark;
        }
        if (is_open) return Found{.at = at};
        if (longest != nullptr) return Found{.at = at, .mark = longest};
    }
    return std::nullopt;
}

bool ReplyReader::begins_bare_call() const {
    const auto* format = options_.format;
    if (format == nullptr || !is_start_ || (!format->open.empty() && !format->is_often_bare)) return false;
    const char first = format->syntax.kind == CallSyntax::Kind::python ? '[' : '{';
    const auto text = std::string_view(text_).substr(n_spaces(text_));
    return text.starts_with(first) || (format->is_often_bare && !text.empty() && agree(text, kFence));
}

/// A call that is the whole text can be told from other texts by its first characters.
bool ReplyReader::may_be_bare_call() const {
    auto rest = std::string_view(text_).substr(n_spaces(text_));
    if (options_.format->is_often_bare && agree(rest, kFence)) {
        if (rest.size() <= kFence.size()) return true;
        rest.remove_prefix(kFence.size());
        rest.remove_prefix(n_spaces(rest));
        if (rest.empty()) return true;
        if (rest.front() != '{') return false;
    }
    rest.remove_prefix(1);
    rest.remove_prefix(n_spaces(rest));
    if (rest.empty()) return true;
    const bool is_python = options_.format->syntax.kind == CallSyntax::Kind::python;
    if (is_python) return std::ranges::any_of(options_.tools, [&](const Tool& tool) { return agree(rest, tool.name); });
    constexpr std::string_view kKeys[] = {"\"name\"", "\"type\"", "\"function\"", "\"parameters\"", "\"arguments\""};
    return std::ranges::any_of(kKeys, [&](std::string_view key) { return agree(rest, key); });
}

bool ReplyReader::read_content(bool is_last) {
    if (skips_space_) text_.erase(0, n_spaces(text_));
    if (text_.empty()) return false;
    skips_space_ = false;
    if (begins_bare_call()) {
        begun_.clear();
        is_bare_ = true;
        mode_ = Mode::call;
        return true;
    }
    const auto found = find_mark(is_last);
    const size_t n = found ? found->at : text_.size();
    const bool has_marks = !marks_.empty() || options_.format != nullptr;
    const bool holds_space = has_marks && (!is_last || (found && found->mark != nullptr));
    const size_t n_space = holds_space ? std::min(kMaxSpace, n_spaces_at_end(std::string_view(text_).substr(0, n))) : 0;
    const std::string space = text_.substr(n - n_space, n_space);
    say(ReplyPart::Kind::content, std::string_view(text_).substr(0, n - n_space));
    if (!found || found->mark == nullptr) {
        text_.erase(0, n - n_space);
        return false;
    }
    text_.erase(0, n + found->mark->text.size());
    enter(*found->mark, space);
    return true;
}

void ReplyReader::enter(const Mark& mark, std::string_view space) {
    mode_ = mark.next;
    skips_space_ = mark.next != Mode::call;
    begun_ = std::string(space) + std::string(mark.text);
    searched_ = 0;
    n_ends_ = 0;
    is_bare_ = false;
}

bool ReplyReader::read_reasoning(bool is_last) {
    if (skips_space_) text_.erase(0, n_spaces(text_));
    if (text_.empty()) return false;
    skips_space_ = false;
    const auto end = options_.reasoning.value_or(ReasoningMarks{}).end;
    const size_t at = text_.find(end);
    const bool has_end = at != std::string::npos;
    const size_t n = has_end ? at : text_.size() - (is_last ? 0 : n_begun(text_, end));
    const size_t n_space = is_last && !has_end ? 0 : n_spaces_at_end(std::string_view(text_).substr(0, n));
    say(ReplyPart::Kind::reasoning, std::string_view(text_).substr(0, n - n_space));
    if (!has_end) {
        text_.erase(0, n - n_space);
        return false;
    }
    text_.erase(0, at + end.size());
    mode_ = Mode::content;
    skips_space_ = true;
    return true;
}

bool ReplyReader::read_call(bool is_last) {
    const auto& format = *options_.format;
    if (is_bare_) {
        const bool is_possible = may_be_bare_call();
        if (is_possible && !is_last) return false;
        if (!is_possible || !finish_call(text_.size(), 0)) refuse_call();
        return true;
    }
    const auto close = format.close.empty() ? format.open : format.close;
    const size_t at = text_.find(close, searched_);
    if (at == std::string::npos) {
        searched_ = std::max(searched_, text_.size() - std::min(text_.size(), close.size()));
        if (!is_last) return false;
        if (!finish_call(text_.size(), 0)) refuse_call();
        return true;
    }
    if (finish_call(at, format.close.empty() ? 0 : close.size())) return true;
    searched_ = at + close.size();
    if (++n_ends_ >= kMaxEnds) refuse_call();
    return true;
}

bool ReplyReader::finish_call(size_t n_section, size_t n_close) {
    auto section = std::string_view(text_).substr(0, n_section);
    if (is_bare_) section = without_fence(section);
    auto calls = read_tool_calls(*options_.format, section, options_.tools);
    if (!calls) return false;
    for (auto& call : *calls) parts_.push_back({.kind = ReplyPart::Kind::call, .call = std::move(call)});
    text_.erase(0, n_section + n_close);
    mode_ = Mode::content;
    skips_space_ = true;
    is_start_ = false;
    return true;
}

/// Makes content of what began a call.
void ReplyReader::refuse_call() {
    say(ReplyPart::Kind::content, begun_);
    is_start_ = false;
    mode_ = Mode::content;
}

}  // namespace cake
