#include "eval/haystack.hpp"

#include <algorithm>

#include "eval/metrics.hpp"

namespace cake::eval {

namespace {

struct Placed {
    double place;  // 0 to 1
    std::string sentence;
};

double uniform(Random& random) {
    return static_cast<double>(random() >> 11U) * 0x1p-53;
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

Sample bury(const Puzzle& puzzle, const Filler& filler, int64_t n_tokens, double depth, Random& random,
            const CountTokens& count) {
    std::vector<double> places;
    for (size_t i = 0; i < puzzle.needles.size(); i++) places.push_back(uniform(random));
    // The needles that are asked for keep their order, and so do the others.
    const auto asked_end = places.begin() + static_cast<ptrdiff_t>(puzzle.n_asked);
    std::ranges::sort(places.begin(), asked_end);
    std::ranges::sort(asked_end, places.end());
    if (depth >= 0 && puzzle.n_asked == 1) places.front() = depth;

    std::vector<Placed> needles;
    int64_t n_used = count(puzzle.before) + count(puzzle.question);
    for (size_t i = 0; i < puzzle.needles.size(); i++) {
        needles.push_back({.place = places[i], .sentence = puzzle.needles[i]});
        n_used += count(" " + puzzle.needles[i]);
    }
    std::ranges::stable_sort(needles, {}, &Placed::place);

    std::vector<std::string> hay;
    while (n_used < n_tokens) {
        hay.push_back(filler());
        n_used += std::max<int64_t>(count(" " + hay.back()), 1);
    }
    Sample sample{.prompt = compose(puzzle, hay, needles),
                  .answers = puzzle.answers,
                  .metric = contains_all,
                  .max_tokens = puzzle.max_tokens,
                  .length_tokens = n_tokens,
                  .depth = depth};
    while (!hay.empty() && count(sample.prompt) > n_tokens) {
        hay.pop_back();
        sample.prompt = compose(puzzle, hay, needles);
    }
    return sample;
}

}  // namespace cake::eval
