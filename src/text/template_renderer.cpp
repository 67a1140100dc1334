#include "text/template_renderer.hpp"

#include <cake_bridge.h>
#include <fmt/format.h>

#include <ctime>

#include "text/bridge_text.hpp"
#include "text/utf8.hpp"

namespace cake {

namespace {

/// Suffices for a few thousand messages. A template that loops forever uses it up in a fraction of a second.
constexpr uint64_t kFuel = 2'000'000;
/// Bytes of the conversation for which one more unit of fuel is granted. Each byte may then be read and copied dozens
/// of times.
constexpr uint64_t kBytesPerFuel = 2;
constexpr size_t kMaxOutputBytes = size_t{16} << 20U;
constexpr size_t kMaxGrowth = 8;  // additional bytes of output for each byte of the conversation

size_t write_time(void* /*user*/, const char* format, size_t n_format, char* out, size_t n_out) {
    const std::string zero_terminated(format, n_format);
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    if (localtime_r(&now, &local) == nullptr) return 0;
    return std::strftime(out, n_out, zero_terminated.c_str(), &local);
}

std::string where(size_t line) {
    return line == 0 ? std::string("the chat template") : fmt::format("line {} of the chat template", line);
}

std::string sentence(const CakeRendered& rendered, std::string_view text) {
    constexpr size_t kMaxShown = 300;
    const auto said = beginning_of(text, kMaxShown);
    switch (rendered.status) {
        case CAKE_RENDER_WRONG_SYNTAX:
            return fmt::format("{} is not valid Jinja: {}", where(rendered.line), said);
        case CAKE_RENDER_FAILED:
            return fmt::format("{} failed: {}", where(rendered.line), said);
        case CAKE_RENDER_REFUSED:
            return fmt::format("{} rejects the conversation: {}", where(rendered.line), said);
        case CAKE_RENDER_OUT_OF_FUEL:
            return fmt::format("{} was still running at its limit: does it loop forever?", where(rendered.line));
        case CAKE_RENDER_TOO_LONG:
            return "the chat template makes far more text than the conversation contains";
        case CAKE_RENDER_BAD_CONTEXT:
            return fmt::format("the conversation cannot be passed to the chat template: {}", said);
        default:
            return fmt::format("the chat template could not be rendered: {}", said);
    }
}

}  // namespace

bool can_render_templates() {
    return true;
}

Result<std::string> render_template(std::string_view source, std::string_view context_json) {
    const CakeTemplate job{.source = source.data(),
                           .n_source = source.size(),
                           .context = context_json.data(),
                           .n_context = context_json.size(),
                           .fuel = kFuel + context_json.size() / kBytesPerFuel,
                           .max_output_bytes = kMaxOutputBytes + kMaxGrowth * context_json.size(),
                           .clock = write_time,
                           .clock_user = nullptr};
    const CakeRendered rendered = cake_render_template(&job);
    const BridgeText text(rendered.text);
    if (rendered.status != CAKE_RENDERED) return fail(sentence(rendered, text.view()));
    return text.text();
}

}  // namespace cake
