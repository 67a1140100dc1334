#include "eval/haystack.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "eval/metrics.hpp"

namespace cake::eval {

namespace {

struct Placed {
    double place;  // relative position in the text, 0 to 1
    std::string sentence;
};

double uniform(Random& random) {
    return static_cast<double>(random() >> 11U) * 0x1p-53;
}

std::vector<Placed> place_needles(const Puzzle& puzzle, double depth, Random& random) {
    std::vector<double> places;
    for (size_t i = 0; i < puzzle.needles.size(); i++) places.push_back(uniform(random));
    // Keep the order of the needles asked for, and that of the distractors.
    const auto asked_end = places.begin() + static_cast<ptrdiff_t>(puzzle.n_asked);
    std::ranges::sort(places.begin(), asked_end);
    std::ranges::sort(asked_end, places.end());
    if (depth >= 0 && puzzle.n_asked == 1) places.front() = depth;
    std::vector<Placed> needles;
    for (size_t i = 0; i < puzzle.needles.size(); i++)
        needles.push_back({.place = places[i], .sentence = puzzle.needles[i]});
    std::ranges::stable_sort(needles, {}, &Placed::place);
    return needles;
}

std::string compose(const Puzzle& puzzle, const std::vector<std::string>& hay, const std::vector<Placed>& needles) {
    std::string text = puzzle.before;
    size_t next = 0;
    const auto add = [&](const std::string& sentence) {
        if (text.size() > puzzle.before.size()) text += ' ';
        text += sentence;
    };
    for (size_t i = 0; i <= hay.size(); i++) {
        const double here = static_cast<double>(i) / static_cast<double>(std::max<size_t>(hay.size(), 1));
        while (next < needles.size() && (needles[next].place <= here || i == hay.size())) add(needles[next++].sentence);
        if (i < hay.size()) add(hay[i]);
    }
    return text + puzzle.question;
}

}  // namespace

Result<Sample> bury(const Puzzle& puzzle, const Filler& filler, int64_t n_tokens, double depth, Random& random,
                    const TokenCounter& counter) {
    const auto needles = place_needles(puzzle, depth, random);
    const int64_t room = n_tokens - puzzle.max_tokens - counter.n_first - counter.count(puzzle.answer_begin) -
                         (puzzle.chat ? counter.n_template : 0);
    std::vector<std::string> hay;
    std::string prompt = compose(puzzle, hay, needles);
    if (counter.count(prompt) > room) {
        return fail(
            fmt::format("{} tokens are too few for the facts and the questions: use a larger length", n_tokens));
    }
    // Add sentences until the sum of their token counts fills the room. Then count the tokens of the whole prompt and
    // remove the sentences that do not fit. Repeat until no further sentence fits.
    for (int64_t left = room - counter.count(prompt); left > 0;) {
        const size_t before = hay.size();
        for (int64_t used = 0; used < left;) {
            hay.push_back(filler());
            used += std::max<int64_t>(counter.count(" " + hay.back()), 1);
        }
        prompt = compose(puzzle, hay, needles);
        bool full = hay.size() == before + 1;
        for (left = room - counter.count(prompt); left < 0; left = room - counter.count(prompt)) {
            hay.pop_back();
            prompt = compose(puzzle, hay, needles);
            full = true;
        }
        if (full) break;
    }
    const size_t question_begin = prompt.size() - puzzle.question.size();
    return Sample{.prompt = std::move(prompt),
                  .question_begin = question_begin,
                  .answer_begin = puzzle.answer_begin,
                  .chat = puzzle.chat,
                  .answers = puzzle.answers,
                  .metric = contains_all,
                  .max_tokens = puzzle.max_tokens,
                  .ends_when_right = true,
                  .length_tokens = n_tokens,
                  .facts = puzzle.facts,
                  .asked = puzzle.facts.empty() ? std::string() : puzzle.facts.front().key,
                  .depth = depth};
}

}  // namespace cake::eval
