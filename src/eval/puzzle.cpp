#include "eval/puzzle.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "eval/words.hpp"

namespace cake::eval {

namespace {

/// Draws random names and values without repeating any in a puzzle.
class Draw {
  public:
    Draw(Wording wording, Random& random) : wording_(wording), random_(random) {}

    std::string noun() {
        return unique([this] { return std::string(nouns()[draw(random_, nouns().size())]); });
    }

    /// "silver falcon", or "silver-falcon" as in RULER.
    std::string key() {
        return unique([this] {
            return fmt::format("{}{}{}", adjectives()[draw(random_, adjectives().size())],
                               wording_ == Wording::bundled ? ' ' : '-', nouns()[draw(random_, nouns().size())]);
        });
    }

    /// Four digits.
    std::string number() {
        return unique([this] { return std::to_string(1000 + draw(random_, 9000)); });
    }

    /// A four-digit multiple of 11, which the bundled model's training leaves out, or seven digits as in RULER.
    std::string value() {
        return unique([this] {
            return std::to_string(wording_ == Wording::bundled ? 11 * (91 + draw(random_, 818))
                                                               : 1'000'000 + draw(random_, 9'000'000));
        });
    }

  private:
    template <typename Make>
    std::string unique(Make make) {
        std::string text = make();
        while (std::ranges::contains(drawn_, text)) text = make();
        drawn_.push_back(text);
        return text;
    }

    Wording wording_;
    Random& random_;
    std::vector<std::string> drawn_;
};

/// Formats the question as the bundled model's chat template does.
void ask_bundled(Puzzle& puzzle, const std::string& question, int32_t max_tokens = 16) {
    puzzle.question = fmt::format("\nUSER: {}\n", question);
    puzzle.answer_begin = "ASSISTANT:";
    puzzle.max_tokens = max_tokens;
}

void ask_published(Puzzle& puzzle, std::string_view before, const std::string& question,
                   const std::string& answer_begin, int32_t max_tokens) {
    puzzle.before = before;
    puzzle.question = "\n" + question;
    puzzle.answer_begin = " " + answer_begin;
    puzzle.max_tokens = max_tokens;
    puzzle.chat = true;
}

constexpr std::string_view kNumbersHidden =
    "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the numbers afterwards.\n";
constexpr int32_t kRulerNiahTokens = 128;

std::string fact(Wording wording, const std::string& key, const std::string& value) {
    return wording == Wording::bundled ? fmt::format("The code of the {} is {}.", key, value)
                                       : fmt::format("One of the special magic numbers for {} is: {}.", key, value);
}

/// A question about one of `n_keys` facts of the same form.
Puzzle look_up(Wording wording, Random& random, size_t n_keys) {
    Draw draw(wording, random);
    Puzzle puzzle;
    std::vector<std::string> keys;
    for (size_t i = 0; i < n_keys; i++) {
        keys.push_back(draw.key());
        const std::string value = draw.value();
        puzzle.needles.push_back(fact(wording, keys.back(), value));
        puzzle.facts.push_back({.key = keys.back(), .value = value});
        if (i == 0) puzzle.answers = {value};
    }
    if (wording == Wording::bundled) {
        ask_bundled(puzzle, fmt::format("What is the code of the {}?", keys.front()));
    } else {
        ask_published(
            puzzle, kNumbersHidden,
            fmt::format("What is the special magic number for {} mentioned in the provided text?", keys.front()),
            fmt::format("The special magic number for {} mentioned in the provided text is", keys.front()),
            kRulerNiahTokens);
    }
    return puzzle;
}

std::string capitals(std::string text) {
    std::ranges::transform(text, text.begin(), [](char c) { return static_cast<char>(c - 'a' + 'A'); });
    return text;
}

}  // namespace

Puzzle single(Wording wording, Random& random, int64_t /*n_tokens*/) {
    return look_up(wording, random, 1);
}

Puzzle multikey(Wording wording, Random& random, int64_t n_tokens) {
    return look_up(wording, random, static_cast<size_t>(std::clamp<int64_t>(n_tokens / 128, 2, 500)));
}

Puzzle multivalue(Wording wording, Random& random, int64_t /*n_tokens*/) {
    constexpr size_t kValues = 4;
    Draw draw(wording, random);
    Puzzle puzzle{.n_asked = kValues};
    const std::string key = draw.key();
    for (size_t i = 0; i < kValues; i++) {
        puzzle.answers.push_back(draw.value());
        puzzle.needles.push_back(wording == Wording::bundled
                                     ? fmt::format("One code of the {} is {}.", key, puzzle.answers.back())
                                     : fact(wording, key, puzzle.answers.back()));
    }
    if (wording == Wording::bundled) {
        ask_bundled(puzzle, fmt::format("What is every code of the {}?", key), 32);
    } else {
        ask_published(puzzle, kNumbersHidden,
                      fmt::format("What are all the special magic numbers for {} mentioned in the provided text?", key),
                      fmt::format("The special magic numbers for {} mentioned in the provided text are", key),
                      kRulerNiahTokens);
    }
    return puzzle;
}

Puzzle tracking(Wording wording, Random& random, int64_t /*n_tokens*/) {
    constexpr size_t kNames = 3;
    Draw draw(wording, random);
    Puzzle puzzle{.n_asked = kNames};
    // The second chain is a distractor.
    for (int chain = 0; chain < 2; chain++) {
        const bool bundled = wording == Wording::bundled;
        const std::string value = bundled ? draw.value() : draw.value().substr(0, 5);
        std::vector<std::string> names;
        for (size_t i = 0; i < kNames; i++) {
            const std::string name = bundled ? draw.noun() : capitals(draw.noun());
            const std::string source = i == 0 ? value : (bundled ? "the value of " : "VAR ") + names.back();
            puzzle.needles.push_back(bundled ? fmt::format("The value of {} is {}.", name, source)
                                             : fmt::format("VAR {} = {}.", name, source));
            names.push_back(name);
        }
        if (chain > 0) continue;
        if (bundled) {
            ask_bundled(puzzle, fmt::format("What is the value of {}?", names.back()));
            puzzle.answers = {value};
        } else {
            ask_published(
                puzzle, "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
                fmt::format("Question: Find all variables that are assigned the value {} in the text above.", value),
                fmt::format("Answer: According to the chain(s) of variable assignment in the text above, {} variables "
                            "are assigned the value {}, they are: ",
                            kNames, value),
                30);
            puzzle.answers = names;
        }
    }
    return puzzle;
}

Puzzle frequent(Wording wording, Random& random, int64_t /*n_tokens*/) {
    constexpr size_t kOthers = 6;
    constexpr size_t kMax = 6;
    Draw draw(wording, random);
    const std::string topic = draw.key();
    const std::string most = draw.noun();
    std::vector<std::string> listed(kMax, most);
    for (size_t i = 0; i < kOthers; i++) listed.insert(listed.end(), 1 + i % 2, draw.noun());
    std::ranges::shuffle(listed, random);
    Puzzle puzzle;
    puzzle.answers = {most};
    puzzle.needles = {fmt::format("Words of the {}: {}.", topic, fmt::join(listed, " "))};
    if (wording == Wording::bundled) {
        ask_bundled(puzzle, fmt::format("Which word is the most frequent of the {}?", topic));
    } else {
        ask_published(puzzle,
                      "A list of words is hidden within the following text. Some words appear more often than others. "
                      "Memorize the one that appears most often.\n",
                      fmt::format("Question: What is the most common word in the words of the {}?", topic),
                      "Answer: The word that appears most often is", 20);
    }
    return puzzle;
}

Puzzle ledger(Wording wording, Random& random, int64_t n_tokens) {
    constexpr size_t kValues = 4;      // values per key
    constexpr int64_t kMaxKeys = 200;  // the bundled wording has 818 values
    const bool bundled = wording == Wording::bundled;
    Draw draw(wording, random);
    std::vector<std::string> keys;
    for (int64_t i = 0; i < std::clamp<int64_t>(n_tokens / 256, 2, kMaxKeys); i++)
        keys.insert(keys.end(), kValues, draw.key());
    const std::string asked = keys.front();
    std::ranges::shuffle(keys, random);

    Puzzle puzzle{.n_asked = keys.size(), .facts = {{.key = asked, .value = {}}}};
    for (const auto& key : keys) {
        const std::string value = bundled ? draw.value() : draw.number();
        puzzle.needles.push_back(bundled ? fact(wording, key, value)
                                         : fmt::format("The {} box now holds {} coins.", key, value));
        const auto known = std::ranges::find(puzzle.facts, key, &Fact::key);
        if (known == puzzle.facts.end())
            puzzle.facts.push_back({.key = key, .value = value});
        else
            known->value = value;
    }
    puzzle.answers = {puzzle.facts.front().value};
    if (bundled) {
        ask_bundled(puzzle, fmt::format("What is the code of the {}?", asked));
    } else {
        ask_published(
            puzzle,
            "The following text says from time to time what a box holds. What it says later replaces what it said "
            "before. Memorize what each box holds in the end.\n",
            fmt::format("Question: How many coins does the {} box hold in the end?", asked),
            fmt::format("Answer: In the end, the {} box holds", asked), 16);
    }
    return puzzle;
}

Puzzle reasoning(Wording wording, Random& random, int64_t n_tokens) {
    Draw draw(wording, random);
    Puzzle puzzle{.n_asked = 2};
    std::vector<std::string> asked;
    const auto n_pairs = static_cast<size_t>(std::clamp<int64_t>(n_tokens / 512, 1, 100)) + 1;
    for (size_t i = 0; i < n_pairs; i++) {
        const std::string first = draw.key();
        const std::string second = draw.key();
        const std::string value = draw.value();
        puzzle.needles.push_back(wording == Wording::bundled
                                     ? fmt::format("The friend of the {} is the {}.", first, second)
                                     : fmt::format("The keeper of {} is {}.", first, second));
        puzzle.needles.push_back(fact(wording, second, value));
        asked.push_back(first);
        if (i == 0) puzzle.answers = {value};
    }
    if (wording == Wording::bundled) {
        ask_bundled(puzzle, fmt::format("What is the code of the friend of the {}?", asked.front()));
    } else {
        ask_published(puzzle, kNumbersHidden,
                      fmt::format("What is the special magic number for the keeper of {}?", asked.front()),
                      fmt::format("The special magic number for the keeper of {} is", asked.front()), kRulerNiahTokens);
    }
    return puzzle;
}

}  // namespace cake::eval
