#include "method/policy.hpp"

#include <algorithm>

namespace cake {

std::span<const Policy> policies() {
    static const Policy table[] = {
        {"cake", "CAKE: layers by preference, tokens by mean + variance", find_scorer("cake"),
         find_allocator("preference")},
        {"full", "keeps everything", nullptr, nullptr},
        {"snapkv", "SnapKV: the same for every layer, tokens by mean", find_scorer("snapkv"),
         find_allocator("uniform")},
        {"pyramidkv", "PyramidKV: less with depth, tokens by mean", find_scorer("snapkv"), find_allocator("pyramid")},
        {"h2o", "H2O: the heavy hitters of all attention, and the most recent", find_scorer("h2o"),
         find_allocator("uniform")},
        {"tova", "TOVA: by the attention of the last token", find_scorer("tova"), find_allocator("uniform")},
        {"ada-snapkv", "AdaKV: SnapKV, its budget shared among heads by score", find_scorer("snapkv"),
         find_allocator("adaptive-heads")},
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

}  // namespace cake
