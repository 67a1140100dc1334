#include "method/scorer.hpp"

#include <algorithm>
#include <deque>
#include <format>
#include <mutex>

#include "method/criticalkv.hpp"
#include "method/published_scorers.hpp"

namespace cake {

namespace {

constexpr ScorerReads kMeansAndValues = {.window = true, .values = true};

struct Registry {
    std::mutex mutex;
    std::deque<Scorer> scorers = {
        {"cake",
         "attention's mean + gamma * variance over the window",
         {.window = true},
         cake_score,
         {"gamma", "pool_kernel"}},
        {"cake+",
         "the same, reaching the tokens that follow",
         {.window = true},
         cake_plus_score,
         {"gamma", "pool_kernel"}},
        {"snapkv", "attention's mean over the window", {.window = true}, snapkv_score, {"pool_kernel"}},
        {"h2o", "half by attention of all queries, half the most recent", {.all_queries = true}, h2o_score},
        {"tova", "attention of the last query", {.window = true}, tova_score},
        {"lava",
         "attention's largest mean of a group, by the largest value of the head",
         kMeansAndValues,
         lava_score,
         {"pool_kernel"}},
        {"criticalkv",
         "half by attention, half also by the norm of the value's output",
         {.window = true, .output_norms = true},
         criticalkv_score,
         {"pool_kernel"}},
        {"defensivekv",
         "the largest attention of any query, by the norm of the value's output",
         {.window = true, .output_norms = true},
         defensivekv_score,
         {"pool_kernel"},
         defensivekv_reduce},
        {"dropkv",
         "how far the window's outputs move without the token, smoothed",
         {.values = true, .n_reduced = 8},
         dropkv_score,
         {"pool_kernel"},
         dropkv_reduce},
        {"dropkv-max",
         "the same, max-pooled",
         {.values = true, .n_reduced = 8},
         dropkv_max_score,
         {"pool_kernel"},
         dropkv_reduce},
        {"expected-attention",
         "attention of the queries that the text leads to expect, by the value's norm",
         {.keys = true, .values = true, .query_moments = true},
         expected_attention_score},
        {"kvzip", "attention when the model repeats the text", {.replay = Replay::attention}, kvzip_score},
        {"kvzip+", "the same, by the norm of the value's output", {.replay = Replay::output}, kvzip_score},
        {"r-kv",
         "attention against similarity to other keys",
         {.keys = true, .queries = true},
         rkv_score,
         {"pool_kernel"}},
        {"knorm", "keys of the smallest norm", {.keys = true}, knorm_score},
        {"keydiff", "keys least similar to the mean key", {.keys = true}, keydiff_score},
        {"streaming-llm", "the first 4 and the most recent tokens", {}, streaming_score},
        {"random", "chance (a control)", {}, random_score, {"seed"}},
    };
    std::deque<Scorer> critical;  // criticalkv+NAME
};

Registry& registry() {
    static Registry table;
    return table;
}

/// Returns the scorer "criticalkv+NAME", which is made when it is first used.
const Scorer* add_critical(const Scorer& base) {
    auto scorer = critical_scorer(base);
    auto& table = registry();
    const std::scoped_lock lock(table.mutex);
    const auto found = std::ranges::find(table.critical, scorer.name, &Scorer::name);
    if (found != table.critical.end()) return &*found;
    return &table.critical.emplace_back(std::move(scorer));
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
    constexpr std::string_view kCritical = "criticalkv+";
    const auto find = [](std::string_view wanted) -> const Scorer* {
        const auto all = scorers();
        const auto found = std::ranges::find(all, wanted, &Scorer::name);
        return found == all.end() ? nullptr : *found;
    };
    const Scorer* found = find(name);
    if (found != nullptr || !name.starts_with(kCritical)) return found;
    const Scorer* base = find(name.substr(kCritical.size()));
    if (base == nullptr) return nullptr;
    return add_critical(*base);
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
