#include "method/scorer.hpp"

#include <algorithm>
#include <deque>
#include <format>
#include <mutex>

#include "method/published_scorers.hpp"

namespace cake {

namespace {

struct Registry {
    std::mutex mutex;
    std::deque<Scorer> scorers = {
        {"cake",
         "attention's mean + gamma * variance over the window",
         {.window = true},
         cake_score,
         {"gamma", "pool_kernel"}},
        {"snapkv", "attention's mean over the window", {.window = true}, snapkv_score, {"pool_kernel"}},
        {"h2o", "half by attention of all queries, half the most recent", {.all_queries = true}, h2o_score},
        {"tova", "attention of the last query", {.window = true}, tova_score},
        {"knorm", "keys of the smallest norm", {.keys = true}, knorm_score},
        {"keydiff", "keys least similar to the mean key", {.keys = true}, keydiff_score},
        {"streaming-llm", "the first 4 and the most recent tokens", {}, streaming_score},
        {"random", "chance (a control)", {}, random_score, {"seed"}},
    };
};

Registry& registry() {
    static Registry table;
    return table;
}

}  // namespace

std::vector<const Scorer*> scorers() {
    auto& table = registry();
    const std::scoped_lock lock(table.mutex);
    std::vector<const Scorer*> result;
    for (const auto& scorer : table.scorers) result.push_back(&scorer);
    return result;
}

const Scorer* find_scorer(std::string_view name) {
    const auto all = scorers();
    const auto found = std::ranges::find(all, name, &Scorer::name);
    return found == all.end() ? nullptr : *found;
}

Result<void> add_scorer(Scorer scorer) {
    if (scorer.name.empty() || scorer.name.find_first_of(": \t\n") != std::string::npos)
        return fail(std::format("a scorer cannot be named \"{}\": use a name without spaces and colons", scorer.name));
    if (!scorer.score) return fail(std::format("the scorer {} has no function", scorer.name));
    auto& table = registry();
    const std::scoped_lock lock(table.mutex);
    if (std::ranges::contains(table.scorers, scorer.name, &Scorer::name))
        return fail(std::format("there is already a scorer {}: use another name", scorer.name));
    table.scorers.push_back(std::move(scorer));
    return {};
}

}  // namespace cake
