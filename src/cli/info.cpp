#include <fmt/format.h>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cake/families.hpp"
#include "cli/commands.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_path.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace cake::cli {

namespace {

constexpr int64_t kTexts[] = {4096, 32768, 131072};
constexpr int64_t kBudgets[] = {256, 1024, 4096};

struct InfoFlags {
    std::string path;
    std::string cache_type_k = "f16";
    std::string cache_type_v = "f16";
    bool json = false;
    bool families = false;
};

/// Whether layers with a sliding window have other KV heads than the others.
bool has_other_windows(const ModelInfo& m) {
    return m.n_swa_layers > 0 && (m.n_head_kv_swa != m.n_head_kv || m.head_dim_k_swa != m.head_dim_k);
}

/// What each device has room for; empty if there is none.
std::string devices_text(const ModelInfo& model) {
    std::string text;
    for (const auto& device : list_devices()) {
        const int32_t n = layers_with_room(device, model);
        const auto room = n > model.n_layer ? "all layers"
                          : n > 0           ? fmt::format("{} of {} layers (-ngl {})", n, model.n_layer + 1, n)
                                            : "no layer";
        text += fmt::format("\n{}, {}: has room for {}", device.name, printable(device.description), room);
    }
    return text.empty() ? text : text + "\n";
}

nlohmann::ordered_json devices_json(const ModelInfo& model) {
    auto devices = nlohmann::ordered_json::array();
    for (const auto& device : list_devices())
        devices.push_back({{"device", device.name},
                           {"description", device.description},
                           {"bytes_free", device.free_bytes},
                           {"layers_with_room", layers_with_room(device, model)}});
    return devices;
}

std::string as_text(const Engine& engine, const KvTokenBytes& token) {
    const ModelInfo& m = engine.info();
    const auto bytes = [&](int64_t n_tokens, int64_t per_layer) { return engine.kv_bytes(token, n_tokens, per_layer); };
    std::string out = fmt::format("{}\n", printable(m.name));
    const auto line = [&](std::string_view what, const std::string& value) {
        out += fmt::format("  {:<14}{}\n", what, value);
    };
    line("file", m.n_files > 1 ? fmt::format("{} and {} more", m.path, m.n_files - 1) : m.path);
    line("architecture", m.architecture);
    line("parameters",
         fmt::format("{} in {} ({})", format_count(m.n_params), format_bytes(m.weight_bytes), m.weight_types));
    line("layers", fmt::format("{}, width {}, feed-forward {}", m.n_layer, m.n_embd, m.n_ff));
    if (m.n_expert > 0)
        line("experts", fmt::format("{} in each layer, {} used for each token", m.n_expert, m.n_expert_used));
    if (m.n_swa_layers > 0)
        line("attention", fmt::format("to the last {} tokens in {} of {} layers, to the whole text in the others",
                                      format_count(static_cast<uint64_t>(m.n_swa)), m.n_swa_layers, m.n_kv_layers));
    if (m.n_shared_layers > 0)
        line("shared K/V", fmt::format("read by {} further layers of either kind", m.n_shared_layers));
    if (m.n_recurrent_layers > 0)
        line("recurrent", fmt::format("{} of the layers, with states of {} for each text", m.n_recurrent_layers,
                                      format_bytes(m.recurrent_bytes)));
    std::string heads = fmt::format("{} for queries, {} for K/V, of {} values", m.n_head, m.n_head_kv, m.head_dim_k);
    if (has_other_windows(m))
        heads += fmt::format("; {} for K/V, of {} values, where attention is to the last tokens", m.n_head_kv_swa,
                             m.head_dim_k_swa);
    line("heads", heads);
    line("vocabulary", fmt::format("{} tokens", format_count(static_cast<uint64_t>(m.n_vocab))));
    line("trained on", fmt::format("texts of {} tokens", format_count(static_cast<uint64_t>(m.n_ctx_train))));
    out += fmt::format("\nK/V memory: {} per token\n\n", format_bytes(bytes(1, 1) - m.recurrent_bytes));

    out += fmt::format("  {:<24}", "a text of");
    for (const int64_t n : kTexts) out += fmt::format("{:>20}", format_count(static_cast<uint64_t>(n)) + " tokens");
    out += fmt::format("\n  {:<24}", "full cache");
    for (const int64_t n : kTexts) out += fmt::format("{:>20}", format_bytes(bytes(n, n)));
    out += '\n';
    for (const int64_t budget : kBudgets) {
        out += fmt::format("  {:<24}", fmt::format("--kv-budget {}", budget));
        for (const int64_t n : kTexts) {
            const uint64_t held = bytes(n, budget);
            const double share = 100.0 * static_cast<double>(held) / static_cast<double>(bytes(n, n));
            out += fmt::format("{:>20}", fmt::format("{} ({:.1f}%)", format_bytes(held), share));
        }
        out += '\n';
    }
    const bool two = m.n_shared_layers > 0 && m.n_swa_layers > 0;
    const uint64_t of_window = m.n_swa_layers > 0 ? token.swa_layer : 0;
    const uint64_t staged = two ? token.layer + of_window : std::max(token.layer, of_window);
    out += fmt::format("\nWhile a prompt is read, {} held in full: {} for {} tokens.\n",
                       two ? "one more layer of each kind of attention is" : "one more layer is",
                       format_bytes(staged * static_cast<uint64_t>(kTexts[1])),
                       format_count(static_cast<uint64_t>(kTexts[1])));
    return out + devices_text(m);
}

nlohmann::ordered_json as_json(const Engine& engine, const KvTokenBytes& token) {
    const ModelInfo& m = engine.info();
    return {{"model", m.path},
            {"files", m.n_files},
            {"name", m.name},
            {"architecture", m.architecture},
            {"parameters", m.n_params},
            {"weight_bytes", m.weight_bytes},
            {"weight_types", m.weight_types},
            {"n_layer", m.n_layer},
            {"n_kv_layers", m.n_kv_layers},
            {"n_shared_layers", m.n_shared_layers},
            {"n_swa", m.n_swa},
            {"n_swa_layers", m.n_swa_layers},
            {"n_recurrent_layers", m.n_recurrent_layers},
            {"recurrent_bytes", m.recurrent_bytes},
            {"n_expert", m.n_expert},
            {"n_expert_used", m.n_expert_used},
            {"n_embd", m.n_embd},
            {"n_ff", m.n_ff},
            {"n_head", m.n_head},
            {"n_head_kv", m.n_head_kv},
            {"head_dim", m.head_dim_k},
            {"n_head_kv_swa", m.n_head_kv_swa},
            {"head_dim_swa", m.head_dim_k_swa},
            {"n_vocab", m.n_vocab},
            {"n_ctx_train", m.n_ctx_train},
            {"kv_bytes_per_token", engine.kv_bytes(token, 1, 1) - m.recurrent_bytes},
            {"devices", devices_json(m)}};
}

Result<void> show_families(bool json) {
    std::string text;
    auto list = nlohmann::ordered_json::array();
    for (const auto& family : model_families()) {
        text += fmt::format("{}\n  {}\n  {}\n", family.architecture, family.models, family.traits);
        list.push_back({{"architecture", family.architecture}, {"models", family.models}, {"traits", family.traits}});
    }
    return write_output(json ? list.dump(2) + "\n" : text);
}

Result<void> show(const InfoFlags& flags) {
    if (flags.families) return show_families(flags.json);
    const auto path = find_model(flags.path);
    if (!path) return std::unexpected(path.error());
    const auto engine = Engine::load(*path, {.threads = 1, .repack = false, .devices = {.device = "none"}});
    if (!engine) return std::unexpected(engine.error());
    const auto token = engine->kv_token_bytes(flags.cache_type_k, flags.cache_type_v);
    if (!token) return std::unexpected(token.error());
    return write_output(
        flags.json
            ? as_json(*engine, *token).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n"
            : as_text(*engine, *token));
}

}  // namespace

void add_info(CLI::App& app, std::function<int()>& action) {
    auto flags = std::make_shared<InfoFlags>();
    auto* info =
        app.add_subcommand("info", "describe a model, and how much K/V memory it takes with and without a budget");
    auto* model =
        info->add_option("-m,--model,model", flags->path, "the model: a GGUF file, or a name that ./dev models fetches")
            ->type_name("FILE|NAME");
    info->add_option("--cache-type-k", flags->cache_type_k, "type of the keys, also -ctk")
        ->type_name("TYPE")
        ->capture_default_str();
    info->add_option("--cache-type-v", flags->cache_type_v, "type of the values, also -ctv")
        ->type_name("TYPE")
        ->capture_default_str();
    info->add_flag("--json", flags->json, "print JSON");
    info->add_flag("--families", flags->families, "list the families of models that work, instead")->excludes(model);
    info->callback([flags, &action] {
        if (flags->path.empty() && !flags->families) throw CLI::RequiredError("--model");
        action = [flags] {
            catch_interrupts();
            if (auto shown = show(*flags); !shown) return complain(shown.error().message), kFailed;
            return kDone;
        };
    });
}

}  // namespace cake::cli
