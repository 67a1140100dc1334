#include <utility>

#include "text/guide.hpp"
#include "text/guide_tokens.hpp"

namespace cake {

// The text is a value, because the other implementation of this function keeps it.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
Result<std::shared_ptr<const ConstraintRule>> make_guide_rule(GuideKind /*kind*/, std::string /*text*/,
                                                              bool /*lenient*/) {
    return fail(Error::Code::unsupported,
                "this build of cake enforces only grammars in GBNF, no schemas or expressions (CAKE_BRIDGE is OFF)");
}

// NOLINTNEXTLINE(performance-unnecessary-value-param)
Result<std::shared_ptr<const ConstraintRule>> make_lark_rule(const Vocabulary& /*vocabulary*/, std::string text) {
    return make_guide_rule(GuideKind::lark, std::move(text));
}

Result<std::shared_ptr<const GuideTokens>> SharedGuideTokens::get(const Vocabulary& /*vocabulary*/) {
    return fail(Error::Code::unsupported, "this build of cake has no llguidance (CAKE_BRIDGE is OFF)");
}

}  // namespace cake
