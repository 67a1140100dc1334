#include "model/architecture.hpp"

#include <algorithm>
#include <cmath>
#include <format>

namespace cake {

namespace {

constexpr Architecture kArchitectures[] = {
    // Llama 1 to 3, Mistral, SmolLM, TinyLlama
    {.name = "llama", .rope_mode = GGML_ROPE_TYPE_NORMAL},
};

std::string known_names() {
    std::string names;
    for (const auto& architecture : kArchitectures)
        names += (names.empty() ? "" : ", ") + std::string(architecture.name);
    return names;
}

/// Reads keys below the architecture's prefix and remembers the first error, so that a list of reads stays a list.
class KeyReader {
  public:
    KeyReader(const GgufFile& file, std::string_view architecture)
        : file_(file), prefix_(std::string(architecture) + ".") {}

    /// A whole number from 1 to `most`; required where `fallback` is 0.
    int32_t count(const char* key, uint32_t most, int32_t fallback = 0) {
        const auto value = file_.u32(prefix_ + key);
        if (!value) return note(value.error().message), 0;
        if (!value->has_value()) {
            if (fallback == 0) note(std::format("{}: the metadata value {}{} is missing", file_.path(), prefix_, key));
            return fallback;
        }
        if (**value < 1 || **value > most) {
            note(std::format("{}: the metadata value {}{} is {}; it must be 1 to {}", file_.path(), prefix_, key,
                             **value, most));
        }
        return static_cast<int32_t>(std::min(**value, most));
    }

    /// A positive, finite number; required where `fallback` is 0.
    float positive(const char* key, float fallback = 0) {
        const auto value = file_.f32(prefix_ + key);
        if (!value) return note(value.error().message), 0.0F;
        if (!value->has_value()) {
            if (fallback == 0) note(std::format("{}: the metadata value {}{} is missing", file_.path(), prefix_, key));
            return fallback;
        }
        if (!std::isfinite(**value) || **value <= 0) {
            note(std::format("{}: the metadata value {}{} is {}; it must be positive", file_.path(), prefix_, key,
                             **value));
        }
        return **value;
    }

    /// Refuses a number other than `only`.
    void require(const char* key, uint32_t only, std::string_view why) {
        const auto value = file_.u32(prefix_ + key);
        if (!value) return note(value.error().message);
        if (value->has_value() && **value != only) {
            note(std::format("{}: the metadata value {}{} is {}: {}", file_.path(), prefix_, key, **value, why));
        }
    }

    float rope_freq_scale() {
        const auto type = file_.string(prefix_ + "rope.scaling.type");
        if (!type) return note(type.error().message), 1.0F;
        const float attention_factor = positive("rope.scaling.attn_factor", 1);
        if (attention_factor != 1) {
            note(std::format("{}: the metadata value {}rope.scaling.attn_factor is {}: only 1 is supported",
                             file_.path(), prefix_, attention_factor));
        }
        // As llama.cpp does: without a type the factor is linear's, under its new name or its old one.
        const std::string kind = type->value_or("linear");
        if (kind == "none") return 1;
        if (kind == "linear") {
            const bool renamed = file_.has(prefix_ + "rope.scaling.factor");
            return 1 / positive(renamed ? "rope.scaling.factor" : "rope.scale_linear", 1);
        }
        note(std::format(
            "{}: the metadata value {}rope.scaling.type is \"{}\"; none and linear are supported, and Llama 3's "
            "rope_freqs tensor",
            file_.path(), prefix_, kind));
        return 1;
    }

    void note(std::string message) {
        if (error_.empty()) error_ = std::move(message);
    }
    const std::string& error() const { return error_; }

  private:
    const GgufFile& file_;
    std::string prefix_;
    std::string error_;
};

}  // namespace

std::span<const Architecture> architectures() {
    return kArchitectures;
}

Result<Hparams> read_hparams(const GgufFile& file) {
    const auto name = file.string("general.architecture");
    if (!name) return std::unexpected(name.error());
    if (!name->has_value()) return fail(file.path() + ": the metadata value general.architecture is missing");
    const auto* found = std::ranges::find(kArchitectures, **name, &Architecture::name);
    if (found == std::end(kArchitectures)) {
        return fail(std::format("{}: the architecture \"{}\" is not supported; these are: {}", file.path(), **name,
                                known_names()));
    }

    constexpr uint32_t kMostWidth = 1U << 20U;
    KeyReader keys(file, found->name);
    Hparams h;
    h.architecture = found;
    const auto title = file.string("general.name");
    h.name = title && title->has_value() ? **title : std::string(found->name);
    h.n_layer = keys.count("block_count", 4096);
    h.n_ctx_train = keys.count("context_length", 1U << 30U);
    h.n_embd = keys.count("embedding_length", kMostWidth);
    h.n_ff = keys.count("feed_forward_length", kMostWidth * 8);
    h.n_head = keys.count("attention.head_count", 65536);
    h.n_head_kv = keys.count("attention.head_count_kv", 65536, std::max(h.n_head, 1));
    h.rms_norm_eps = keys.positive("attention.layer_norm_rms_epsilon");
    h.rope_freq_base = keys.positive("rope.freq_base", 10000);
    h.rope_freq_scale = keys.rope_freq_scale();
    keys.require("expert_count", 0, "mixtures of experts are not supported");
    if (!keys.error().empty()) return fail(keys.error());

    if (h.n_embd % h.n_head != 0 && !file.has(std::string(found->name) + ".attention.key_length")) {
        return fail(std::format("{}: embedding_length {} is not a multiple of attention.head_count {}", file.path(),
                                h.n_embd, h.n_head));
    }
    if (h.n_head % h.n_head_kv != 0) {
        return fail(std::format("{}: attention.head_count {} is not a multiple of attention.head_count_kv {}",
                                file.path(), h.n_head, h.n_head_kv));
    }
    const int32_t head_dim = std::max(h.n_embd / h.n_head, 1);
    h.head_dim_k = keys.count("attention.key_length", kMostWidth, head_dim);
    h.head_dim_v = keys.count("attention.value_length", kMostWidth, head_dim);
    h.n_rot = keys.count("rope.dimension_count", kMostWidth, h.head_dim_k);
    if (!keys.error().empty()) return fail(keys.error());
    if (h.n_rot > h.head_dim_k || h.n_rot % 2 != 0) {
        return fail(std::format("{}: rope.dimension_count {} must be even and at most the head's {}", file.path(),
                                h.n_rot, h.head_dim_k));
    }
    return h;
}

}  // namespace cake
