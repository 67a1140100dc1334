// Reads random answers with calls and reasoning, in one piece and in many. The parts must not depend on the pieces, and
// no character of the content may be lost or invented.

#include <cctype>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "fuzz/loop.hpp"
#include "text/reply_reader.hpp"

namespace {

using namespace cake;
using Json = nlohmann::ordered_json;

bool is_space(char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0;
}

class Fuzz {
  public:
    explicit Fuzz(uint64_t seed) : random_(seed) {}

    /// Makes an answer, and chooses the format in which look() reads it.
    std::string make() {
        const auto& formats = reply_formats();
        options_ = {.format = &formats[below(formats.size())], .tools = tools_};
        if (below(2) == 0) options_.reasoning = reasoning_marks_of("<|channel|>analysis");
        if (below(2) == 0) options_.reasoning = ReasoningMarks{"<think>", "</think>"};
        options_.begins_in_reasoning = options_.reasoning && below(4) == 0;
        std::string text;
        for (size_t i = below(16); i > 0; i--) text += piece();
        return text;
    }

    std::string look(const std::string& text) {
        const auto whole = read(text, text.size() + 1);
        for (const size_t n : {size_t{1}, 1 + below(9)})
            if (read(text, n) != whole)
                return std::string("other parts in pieces, format ") + std::string(options_.format->name);
        bool has_call = false;
        std::string others;
        for (const auto& [kind, part] : whole) {
            has_call = has_call || kind == ReplyPart::Kind::call;
            counts[kind == ReplyPart::Kind::call      ? "call"
                   : kind == ReplyPart::Kind::content ? "content"
                                                      : "reasoning"]++;
            if (kind == ReplyPart::Kind::call) {
                if (!Json::parse(part, nullptr, false).is_object()) return "arguments that are no object";
            } else {
                others += part;
            }
        }
        if (!has_call && !remains(text, others)) return "a character was lost or invented";
        return {};
    }

    std::map<std::string, int64_t> counts;

  private:
    using Parts = std::vector<std::pair<ReplyPart::Kind, std::string>>;

    size_t below(size_t n) { return random_() % n; }

    std::string piece() {
        const auto& format = *options_.format;
        const auto& syntax = format.syntax;
        const auto marks = std::to_array<std::string_view>(
            {format.open, format.close, format.begin, format.end, syntax.before_name, syntax.after_name, syntax.behind,
             syntax.before_key, syntax.after_key, syntax.after_value, format.turn, "<think>", "</think>",
             "<|channel|>analysis<|message|>", "<|end|>", "<|channel|>final<|message|>"});
        switch (below(8)) {
            case 0:
                return call();
            case 1:
            case 2:
                return std::string(marks[below(marks.size())]);
            case 3: {
                const auto mark = marks[below(marks.size())];
                return std::string(mark.substr(0, below(mark.size() + 1)));
            }
            default:
                constexpr std::string_view kTexts[]{" ",
                                                    "\n",
                                                    "{",
                                                    "}",
                                                    "[",
                                                    "]",
                                                    "\"",
                                                    "stop",
                                                    "name",
                                                    "é",
                                                    "a",
                                                    "(",
                                                    ")",
                                                    ":",
                                                    "{}",
                                                    "{\"name\": \"stop\", \"arguments\": {}}",
                                                    "stop(x=1)",
                                                    "stop(x='",
                                                    "'",
                                                    "\\u",
                                                    "\\ud83c\\udf70"};
                return std::string(kTexts[below(std::size(kTexts))]);
        }
    }

    /// A call that is whole in many of the formats.
    std::string call() {
        const auto& format = *options_.format;
        const auto& syntax = format.syntax;
        const auto join = [](std::initializer_list<std::string_view> texts) {
            std::string joined;
            for (const auto text : texts) joined += text;
            return joined;
        };
        std::string inside = "stop(a=1)";
        if (syntax.kind == CallSyntax::Kind::json)
            inside = join({"{\"", syntax.name_key, "\": \"stop\", \"", syntax.arguments_key, "\": {\"a\": \"",
                           format.close, "\"}}"});
        if (syntax.kind == CallSyntax::Kind::named_json)
            inside = join({syntax.before_name, "stop", syntax.after_name, "{\"a\": 1}", syntax.behind});
        if (syntax.kind == CallSyntax::Kind::parameters)
            inside =
                join({"stop", syntax.after_name, syntax.before_key, "a", syntax.after_key, "1", syntax.after_value});
        if (syntax.is_list || syntax.kind == CallSyntax::Kind::python) inside = "[" + inside + "]";
        return join({format.open, format.begin, inside, format.end, format.close});
    }

    Parts read(std::string_view text, size_t n_piece) const {
        ReplyReader reader(options_);
        Parts parts;
        const auto add = [&](const std::vector<ReplyPart>& read) {
            for (const auto& part : read) {
                if (part.kind == ReplyPart::Kind::call)
                    parts.emplace_back(part.kind, part.call.arguments);
                else if (!parts.empty() && parts.back().first == part.kind)
                    parts.back().second += part.text;
                else
                    parts.emplace_back(part.kind, part.text);
            }
        };
        for (size_t at = 0; at < text.size(); at += n_piece) add(reader.add(text.substr(at, n_piece)));
        add(reader.finish());
        return parts;
    }

    /// Whether `parts` is what remains of a text if some of its white space and of the marks that belong to no part are
    /// left out.
    bool remains(std::string_view text, std::string_view parts) const {
        std::vector<std::string_view> marks(options_.format->skipped);
        if (options_.reasoning) marks.insert(marks.end(), {options_.reasoning->begin, options_.reasoning->end});
        std::map<size_t, std::set<size_t>> reached{{0, {0}}};  // for offsets in the text, those in the parts
        for (size_t at = 0; at < text.size(); at++) {
            const auto from = std::move(reached[at]);
            reached.erase(at);
            const auto rest = text.substr(at);
            for (const size_t n : from) {
                if (n < parts.size() && parts[n] == rest.front()) reached[at + 1].insert(n + 1);
                if (is_space(rest.front())) reached[at + 1].insert(n);
                for (const auto mark : marks)
                    if (rest.starts_with(mark)) reached[at + mark.size()].insert(n);
            }
        }
        return reached[text.size()].contains(parts.size());
    }

    std::mt19937_64 random_;
    std::vector<Tool> tools_{{.name = "stop"}, {.name = "get_weather"}};
    ReplyOptions options_;
};

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Random answers with calls and reasoning."};
    test::FuzzLoop loop(app, 1'000'000);
    CLI11_PARSE(app, argc, argv);
    Fuzz fuzz(loop.seed());
    const int code = loop.run([&] { return fuzz.make(); }, [&](const std::string& text) { return fuzz.look(text); });
    test::print_counts(fuzz.counts);
    return code;
}
