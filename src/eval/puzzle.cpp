#include "eval/puzzle.hpp"

#include <algorithm>
#include <format>

#include "eval/words.hpp"

namespace cake::eval {

namespace {

/// Draws names and values; none twice in a puzzle.
class Draw {
  public:
    Draw(Wording wording, Random& random) : wording_(wording), random_(random) {}

    std::string noun() {
        return unique([this] { return std::string(nouns()[draw(random_, nouns().size())]); });
    }

    /// "silver falcon", or "silver-falcon" as RULER has it.
    std::string key() {
        return unique([this] {
            return std::format("{}{}{}", adjectives()[draw(random_, adjectives().size())],
                               wording_ == Wording::bundled ? ' ' : '-', nouns()[draw(random_, nouns().size())]);
        });
    }

    /// Of four digits and a multiple of 11, which the bundled model's training leaves out; of seven for RULER.
    std::string value() {
        return unique([this] {
            return std::to_string(wording_ == Wording::bundled ? 11 * (91 + draw(random_, 818))
                                                               : 1'000'000 + draw(random_, 9'000'000));
        });
    }

    Random& random() { return random_; }

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

std::string ask(const std::string& question) {
    return std::format("\nUSER: {}\nASSISTANT:", question);
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const auto& word : words) text += (text.empty() ? "" : " ") + word;
    return text;
}

constexpr std::string_view kRulerBefore =
    "Some special magic numbers are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the numbers afterwards.\n";

std::string ruler_needle(const std::string& key, const std::string& value) {
    return std::format("One of the special magic numbers for {} is: {}.", key, value);
}

std::string ruler_question_for_all(const std::string& key) {
    return std::format(
        "\nWhat are all the special magic numbers for {0} mentioned in the provided text? The special magic "
        "numbers for {0} mentioned in the provided text are",
        key);
}

/// One fact and others of the same form.
Puzzle look_up(Wording wording, Random& random, size_t n_keys) {
    Draw draw(wording, random);
    Puzzle puzzle;
    std::string asked;
    for (size_t i = 0; i < n_keys; i++) {
        const std::string key = draw.key();
        const std::string value = draw.value();
        puzzle.needles.push_back(wording == Wording::bundled ? std::format("The code of the {} is {}.", key, value)
                                                             : ruler_needle(key, value));
        if (i > 0) continue;
        asked = key;
        puzzle.answers = {value};
    }
    if (wording == Wording::bundled) {
        puzzle.question = ask(std::format("What is the code of the {}?", asked));
    } else {
        puzzle.before = kRulerBefore;
        puzzle.question = std::format(
            "\nWhat is the special magic number for {0} mentioned in the provided text? The special magic number for "
            "{0} "
            "mentioned in the provided text is",
            asked);
        puzzle.max_tokens = 128;
    }
    return puzzle;
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
                                     ? std::format("One code of the {} is {}.", key, puzzle.answers.back())
                                     : ruler_needle(key, puzzle.answers.back()));
    }
    if (wording == Wording::bundled) {
        puzzle.question = ask(std::format("What is every code of the {}?", key));
        puzzle.max_tokens = 32;
    } else {
        puzzle.before = kRulerBefore;
        puzzle.question = ruler_question_for_all(key);
        puzzle.max_tokens = 128;
    }
    return puzzle;
}

Puzzle tracking(Wording wording, Random& random, int64_t /*n_tokens*/) {
    constexpr size_t kNames = 3;
    Draw draw(wording, random);
    Puzzle puzzle{.n_asked = kNames};
    // The second chain distracts.
    for (int chain = 0; chain < 2; chain++) {
        const std::string value = wording == Wording::bundled ? draw.value() : draw.value().substr(0, 5);
        std::vector<std::string> names;
        for (size_t i = 0; i < kNames; i++) {
            std::string name = draw.noun();
            if (wording == Wording::published)
                std::ranges::transform(name, name.begin(), [](char c) { return static_cast<char>(c - 'a' + 'A'); });
            if (wording == Wording::bundled) {
                puzzle.needles.push_back(i == 0
                                             ? std::format("The value of {} is {}.", name, value)
                                             : std::format("The value of {} is the value of {}.", name, names.back()));
            } else {
                puzzle.needles.push_back(i == 0 ? std::format("VAR {} = {}.", name, value)
                                                : std::format("VAR {} = VAR {}.", name, names.back()));
            }
            names.push_back(std::move(name));
        }
        if (chain > 0) continue;
        if (wording == Wording::bundled) {
            puzzle.question = ask(std::format("What is the value of {}?", names.back()));
            puzzle.answers = {value};
        } else {
            puzzle.before = "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n";
            puzzle.question = std::format(
                "\nQuestion: Find all variables that are assigned the value {} in the text above. Answer: According to "
                "the "
                "chain(s) of variable assignment in the text above, {} variables are assigned the value {}, they are: ",
                value, kNames, value);
            puzzle.answers = names;
            puzzle.max_tokens = 30;
        }
    }
    return puzzle;
}

Puzzle frequent(Wording wording, Random& random, int64_t /*n_tokens*/) {
    constexpr size_t kOthers = 6;
    constexpr size_t kMost = 6;
    Draw draw(wording, random);
    const std::string topic = draw.key();
    const std::string most = draw.noun();
    std::vector<std::string> listed(kMost, most);
    for (size_t i = 0; i < kOthers; i++) listed.insert(listed.end(), 1 + i % 2, draw.noun());
    std::ranges::shuffle(listed, random);
    Puzzle puzzle{.answers = {most}};
    puzzle.needles = {std::format("Words of the {}: {}.", topic, joined(listed))};
    if (wording == Wording::bundled) {
        puzzle.question = ask(std::format("Which word is the most frequent of the {}?", topic));
    } else {
        puzzle.before =
            "A list of words is hidden within the following text. Some words appear more often than others. "
            "Memorize the one that appears most often.\n";
        puzzle.question = std::format(
            "\nQuestion: What is the most common word in the words of the {}? Answer: The word that appears most often "
            "is",
            topic);
        puzzle.max_tokens = 20;
    }
    return puzzle;
}

Puzzle reasoning(Wording wording, Random& random, int64_t n_tokens) {
    Draw draw(wording, random);
    Puzzle puzzle{.n_asked = 2};
    const auto pair = [&] {
        const std::string first = draw.key();
        const std::string second = draw.key();
        const std::string value = draw.value();
        if (wording == Wording::bundled) {
            puzzle.needles.push_back(std::format("The friend of the {} is the {}.", first, second));
            puzzle.needles.push_back(std::format("The code of the {} is {}.", second, value));
        } else {
            puzzle.needles.push_back(std::format("The keeper of {} is {}.", first, second));
            puzzle.needles.push_back(ruler_needle(second, value));
        }
        return std::pair{first, value};
    };
    const auto [asked, value] = pair();
    const auto n_others = static_cast<size_t>(std::clamp<int64_t>(n_tokens / 512, 1, 100));
    for (size_t i = 0; i < n_others; i++) pair();
    puzzle.answers = {value};
    if (wording == Wording::bundled) {
        puzzle.question = ask(std::format("What is the code of the friend of the {}?", asked));
    } else {
        puzzle.before = kRulerBefore;
        puzzle.question = std::format(
            "\nWhat is the special magic number for the keeper of {0}? The special magic number for the keeper of {0} "
            "is",
            asked);
        puzzle.max_tokens = 128;
    }
    return puzzle;
}

}  // namespace cake::eval
