#include "method/policy.hpp"

#include <algorithm>
#include <format>

namespace cake {

namespace {

template <typename Entry>
Named named(const Entry& entry) {
    return {.name = std::string(entry.name), .summary = std::string(entry.summary)};
}

std::string list(const std::vector<Named>& table) {
    std::string names;
    for (const auto& entry : table) names += (names.empty() ? "" : ", ") + entry.name;
    return names;
}

/// Scores the tokens of an answer with SnapKV if the scorer needs the whole text, or the output projection of all
/// values, which would have to be computed again for every eviction.
const Scorer* decode_scorer_of(const Scorer* scorer) {
    if (scorer == nullptr) return nullptr;
    return scorer->reads.whole_text() || scorer->reads.output_norms ? find_scorer("snapkv") : scorer;
}

}  // namespace

std::span<const Policy> policies() {
    static const Policy table[] = {
        {kDefaultPolicy, "CAKE with scores that reach the tokens after them, so that whole answers stay",
         find_scorer("cake+"), find_allocator("preference")},
        {"cake", "CAKE: layers by preference, tokens by mean + variance", find_scorer("cake"),
         find_allocator("preference")},
        {kFullPolicy, "keeps everything", nullptr, nullptr},
        {"snapkv", "SnapKV: the same for every layer, tokens by mean", find_scorer("snapkv"),
         find_allocator("uniform")},
        {"pyramidkv", "PyramidKV: less with depth, tokens by mean", find_scorer("snapkv"), find_allocator("pyramid")},
        {"h2o", "H2O: the heavy hitters of all attention, and the most recent", find_scorer("h2o"),
         find_allocator("uniform")},
        {"tova", "TOVA: by the attention of the last token", find_scorer("tova"), find_allocator("uniform")},
        {"ada-snapkv", "AdaKV: SnapKV, its budget shared among heads by score", find_scorer("snapkv"),
         find_allocator("adaptive-heads")},
        {"lava", "LAVa: by attention and values, layers by the entropy of their scores", find_scorer("lava"),
         find_allocator("entropy")},
        {"dropkv", "DropKV: by what dropping a token changes", find_scorer("dropkv"), find_allocator("uniform")},
        {"criticalkv", "CriticalKV: SnapKV, half of it also by the value's output", find_scorer("criticalkv"),
         find_allocator("uniform")},
        {"critical-adakv", "the same, its budget shared among heads by score", find_scorer("criticalkv"),
         find_allocator("adaptive-heads")},
        {"defensivekv", "DefensiveKV: the worst case over queries, shared among heads", find_scorer("defensivekv"),
         find_allocator("layer-top-k")},
        {"layer-defensivekv", "the same, shared among all heads of all layers", find_scorer("defensivekv"),
         find_allocator("model-top-k")},
        {"expected-attention", "Expected Attention: by the queries that a text leads to expect",
         find_scorer("expected-attention"), find_allocator("adaptive-heads")},
        {"kvzip", "KVzip: by what the model looks at when it repeats the text", find_scorer("kvzip"),
         find_allocator("model-top-k")},
        {"kvzip+", "KVzip+: the same, by the norm of the value's output", find_scorer("kvzip+"),
         find_allocator("model-top-k")},
        {"r-kv", "R-KV: SnapKV, and in answers by attention against redundancy", find_scorer("snapkv"),
         find_allocator("uniform"), find_scorer("r-kv")},
        {"knorm", "keys of the smallest norm", find_scorer("knorm"), find_allocator("uniform")},
        {"keydiff", "KeyDiff: keys least similar to the mean key", find_scorer("keydiff"), find_allocator("uniform")},
        {"streaming-llm", "StreamingLLM: first and most recent tokens", find_scorer("streaming-llm"),
         find_allocator("uniform")},
    };
    return table;
}

const Policy* find_policy(std::string_view name) {
    const auto found = std::ranges::find(policies(), name, &Policy::name);
    return found == policies().end() ? nullptr : &*found;
}

std::vector<Named> policy_names() {
    std::vector<Named> result;
    for (const auto& policy : policies()) result.push_back(named(policy));
    return result;
}

std::vector<Named> scorer_names() {
    std::vector<Named> result;
    for (const auto* scorer : scorers()) result.push_back(named(*scorer));
    return result;
}

std::vector<Named> allocator_names() {
    std::vector<Named> result;
    for (const auto& allocator : allocators()) result.push_back(named(allocator));
    return result;
}

Result<Policy> resolve_policy(const PolicyNames& names) {
    Policy result;
    std::string scorer = names.scorer;
    std::string allocator = names.allocator;
    if (const auto colon = names.policy.find(':'); colon != std::string::npos) {
        if (scorer.empty()) scorer = names.policy.substr(0, colon);
        if (allocator.empty()) allocator = names.policy.substr(colon + 1);
    } else if (const Policy* policy = find_policy(names.policy)) {
        result = *policy;
    } else {
        return fail(
            std::format("there is no policy \"{}\"; use one of: {}; or SCORER:ALLOCATOR, from the scorers {} "
                        "and the allocators {}",
                        names.policy, list(policy_names()), list(scorer_names()), list(allocator_names())));
    }
    if (!scorer.empty()) {
        result.scorer = find_scorer(scorer);
        if (result.scorer == nullptr)
            return fail(std::format("there is no scorer \"{}\"; use one of: {}", scorer, list(scorer_names())));
    }
    if (!allocator.empty()) {
        result.allocator = find_allocator(allocator);
        if (result.allocator == nullptr)
            return fail(
                std::format("there is no allocator \"{}\"; use one of: {}", allocator, list(allocator_names())));
    }
    if ((result.scorer == nullptr) != (result.allocator == nullptr)) {
        return fail(std::format("the policy {} evicts nothing: set both a scorer and an allocator to change that",
                                names.policy));
    }
    if (result.decode_scorer == nullptr || !scorer.empty()) result.decode_scorer = decode_scorer_of(result.scorer);
    return result;
}

}  // namespace cake
