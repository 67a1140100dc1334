#include "server/tool_constraints.hpp"

#include <algorithm>

#include "text/guide.hpp"

namespace cake::server {

Result<Constraint> ToolConstraints::get(const Vocabulary& vocabulary, const std::string& grammar) {
    {
        const std::lock_guard lock(mutex_);
        const auto found = std::ranges::find(last_used_, grammar, &std::pair<std::string, Constraint>::first);
        if (found != last_used_.end()) {
            last_used_.splice(last_used_.begin(), last_used_, found);
            return found->second;
        }
    }
    auto made = Constraint::of(make_lark_rule(vocabulary, grammar));
    if (!made) return made;
    const std::lock_guard lock(mutex_);
    last_used_.emplace_front(grammar, *made);
    if (last_used_.size() > kMax) last_used_.pop_back();
    return made;
}

}  // namespace cake::server
