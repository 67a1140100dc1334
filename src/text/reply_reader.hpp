#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/reply_format.hpp"
#include "text/tool.hpp"

namespace cake {

/// What the text of an answer may contain besides content.
struct ReplyOptions {
    const ReplyFormat* format = nullptr;  // how calls are written; null: no calls
    std::vector<Tool> tools{};
    std::optional<ReasoningMarks> reasoning{};  // not set: reasoning is content
    bool begins_in_reasoning = false;           // the prompt ends with the mark that begins it
};

/// A piece of an answer, in the order of the text.
struct ReplyPart {
    enum class Kind { content, reasoning, call };
    Kind kind = Kind::content;
    std::string text{};  // not of a call
    ToolCall call{};
};

/// Divides the text of an answer into content, reasoning and calls while it is written. Everything but whole calls and
/// reasoning is content, to the last character; only the marks and the white space beside them belong to no part. How
/// the text is cut into pieces makes no difference.
class ReplyReader {
  public:
    explicit ReplyReader(ReplyOptions options);

    /// Adds text and returns the parts that are final. Text that may become a mark or a call is held back.
    std::vector<ReplyPart> add(std::string_view text);
    /// Ends the text and returns what was held back.
    std::vector<ReplyPart> finish();

    /// True if `text`, the name of a control token, occurs in a mark.
    bool needs(std::string_view text) const;

  private:
    enum class Mode { content, reasoning, call };
    struct Mark {
        std::string_view text;
        Mode next;  // content: a mark that is skipped
    };
    /// The first mark in the text, or where one may begin with its last characters.
    struct Found {
        size_t at = 0;
        const Mark* mark = nullptr;  // null: more text is needed to tell
    };

    void read(bool is_last);
    bool read_content(bool is_last);
    bool read_reasoning(bool is_last);
    bool read_call(bool is_last);
    bool begins_bare_call() const;
    bool may_be_bare_call() const;
    bool may_reason_at(size_t at) const;
    std::optional<Found> find_mark(bool is_last) const;
    void enter(const Mark& mark, std::string_view space);
    bool finish_call(size_t n_section, size_t n_close);
    void refuse_call();
    void say(ReplyPart::Kind kind, std::string_view text);

    ReplyOptions options_;
    std::vector<Mark> marks_;
    Mode mode_ = Mode::content;
    std::string text_;          // text without a part so far
    std::string begun_;         // what began the call, with the white space before it
    size_t searched_ = 0;       // bytes of `text_` without an end of the call
    int n_ends_ = 0;            // ends of the call that were tried
    bool is_bare_ = false;      // the call has no mark: it is the whole text
    bool is_start_ = true;      // nothing but white space has been said
    bool skips_space_ = false;  // behind a mark
    std::vector<ReplyPart> parts_;
};

}  // namespace cake
