#include "engine/session_options.hpp"

#include <limits>

namespace cake {

Json write_options(const SequenceOptions& o) {
    return {{"policy", o.policy},
            {"scorer", o.scorer},
            {"allocator", o.allocator},
            {"window", o.window},
            {"gamma", o.gamma},
            {"pool_kernel", o.pool_kernel},
            {"tau1", o.tau1},
            {"tau2", o.tau2},
            {"evict_interval", o.evict_interval},
            {"cache_type_k", o.cache_type_k},
            {"cache_type_v", o.cache_type_v},
            {"max_tokens", o.max_tokens},
            {"seed", o.seed},
            {"analyse", o.analyse},
            {"keep_queries", o.keep_queries}};
}

SequenceOptions read_options(Fields& fields) {
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
    SequenceOptions o;
    fields.text("policy", o.policy);
    fields.text("scorer", o.scorer);
    fields.text("allocator", o.allocator);
    fields.integer("window", o.window, 1, kMax);
    fields.number("gamma", o.gamma);
    fields.integer("pool_kernel", o.pool_kernel, 0, kMax);
    fields.number("tau1", o.tau1);
    fields.number("tau2", o.tau2);
    fields.integer("evict_interval", o.evict_interval, 0, kMax);
    fields.text("cache_type_k", o.cache_type_k);
    fields.text("cache_type_v", o.cache_type_v);
    fields.integer("max_tokens", o.max_tokens, 0, std::numeric_limits<int64_t>::max());
    fields.unsigned64("seed", o.seed);
    fields.flag("analyse", o.analyse);
    fields.flag("keep_queries", o.keep_queries);
    return o;
}

}  // namespace cake
