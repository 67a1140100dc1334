#include "cake/engine.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "backend/available_cpus.hpp"
#include "backend/placement.hpp"
#include "engine/engine_state.hpp"
#include "engine/sequence_parts.hpp"
#include "memory/kv_buffer.hpp"
#include "text/chat_template.hpp"

namespace cake {

namespace {

std::string weight_types(const GgufFile& file, uint64_t n_bytes) {
    std::map<ggml_type, uint64_t> bytes;
    for (const auto* t : file.tensors()) bytes[t->type] += ggml_nbytes(t);
    std::vector<std::pair<uint64_t, ggml_type>> order;
    for (const auto& [type, n] : bytes) order.emplace_back(n, type);
    std::ranges::sort(order, std::greater{});
    std::string text;
    for (const auto& [n, type] : order) {
        const auto percent = n * 100 / std::max<uint64_t>(n_bytes, 1);
        if (percent > 0) text += fmt::format("{}{} {}%", text.empty() ? "" : ", ", ggml_type_name(type), percent);
    }
    return text;
}

uint64_t bytes_of(const GgufFile& file) {
    uint64_t n_bytes = 0;
    for (const auto* tensor : file.tensors()) n_bytes += ggml_nbytes(tensor);
    return n_bytes;
}

ModelInfo describe(const GgufFile& file, const Hparams& h, const Weights& weights) {
    uint64_t n_params = 0;
    for (const auto* t : file.tensors()) n_params += static_cast<uint64_t>(ggml_nelements(t));
    const auto n_recurrent = static_cast<int32_t>(std::ranges::count(h.recurrent.layers, true));
    const auto n_swa =
        static_cast<int32_t>(std::count(h.swa_layers.begin(), h.swa_layers.begin() + h.n_layer_kv_from_start, true));
    return {.path = file.path(),
            .n_files = static_cast<int32_t>(file.parts().size()),
            .name = h.name,
            .architecture = std::string(h.architecture->name),
            .n_layer = h.n_layer,
            .n_kv_layers = h.n_layer_kv_from_start - (h.architecture->recurrence_beside ? 0 : n_recurrent),
            .n_swa = h.n_swa,
            .n_swa_layers = n_swa,
            .n_shared_layers = h.n_layer - h.n_layer_kv_from_start,
            .n_recurrent_layers = n_recurrent,
            .recurrent_bytes = sizeof(float) * static_cast<uint64_t>(n_recurrent * h.recurrent.n_state()),
            .n_expert = h.n_expert,
            .n_expert_used = h.n_expert_used,
            .n_embd = h.n_embd,
            .n_ff = h.n_ff,
            .n_head = h.n_head,
            .n_head_kv = h.n_head_kv,
            .head_dim_k = h.head_dim_k,
            .head_dim_v = h.head_dim_v,
            .n_head_kv_swa = h.swa_heads.n_head_kv,
            .head_dim_k_swa = h.swa_heads.head_dim_k,
            .n_vocab = h.n_vocab,
            .n_ctx_train = h.n_ctx_train,
            .n_params = n_params,
            .weight_bytes = weights.tensors.n_bytes,
            .weight_types = weight_types(file, weights.tensors.n_bytes)};
}

}  // namespace

Result<Engine> Engine::load(const std::string& path, const EngineOptions& options) {
    silence_libraries();
    constexpr int32_t kMaxThreads = 512;  // ggml's limit
    if (options.threads < 0 || options.threads > kMaxThreads) {
        return fail(fmt::format("{} threads are not possible: use 1 to {}", options.threads, kMaxThreads));
    }
    constexpr int32_t kMaxBatch = 8192;  // bounds a chunk's mask, [tokens of the text, n_batch]
    if (options.n_batch < 1 || options.n_batch > kMaxBatch) {
        return fail(fmt::format("a batch of {} tokens is not possible: use 1 to {}", options.n_batch, kMaxBatch));
    }
    auto file = GgufFile::open(path);
    if (!file) return std::unexpected(file.error());
    auto hparams = read_hparams(*file);
    if (!hparams) return std::unexpected(hparams.error());
    auto layers = place_layers(options.devices, hparams->n_layer, bytes_of(*file));
    if (!layers) return std::unexpected(layers.error());
    auto compute =
        Compute::create(options.threads > 0 ? options.threads : std::min(available_cpus(), kMaxThreads), *layers);
    if (!compute) return std::unexpected(compute.error());
    auto weights = load_weights(*file, *hparams, *compute, options.repack);
    if (!weights) return std::unexpected(weights.error());
    auto vocabulary = Vocabulary::load(path, file->metadata());
    if (!vocabulary) return std::unexpected(vocabulary.error());
    if (vocabulary->n_tokens() > hparams->n_vocab) {
        return fail(Error::Code::corrupt,
                    fmt::format("{}: the vocabulary has {} tokens and token_embd.weight has {} rows", path,
                                vocabulary->n_tokens(), hparams->n_vocab));
    }
    auto info = describe(*file, *hparams, *weights);
    info.devices = std::move(*layers);
    const AttentionMethod attention{.kernels = !options.ggml_attention, .n_threads = compute->n_threads()};
    return Engine(std::make_shared<const EngineState>(options, std::move(*file), std::move(*hparams),
                                                      std::move(*compute), attention, std::move(*weights),
                                                      std::move(*vocabulary), std::move(info)));
}

int32_t layers_with_room(const DeviceInfo& device, const ModelInfo& model) {
    const int32_t n_all = model.n_layer + 1;
    const uint64_t of_layer = model.weight_bytes / static_cast<uint64_t>(n_all) + 1;
    const uint64_t n_free = device.free_bytes - std::min(device.free_bytes, kRoomBesideWeights);
    return static_cast<int32_t>(std::min<uint64_t>(n_free / of_layer, static_cast<uint64_t>(n_all)));
}

Engine::Engine(std::shared_ptr<const EngineState> state) : state_(std::move(state)) {}

Result<Sequence> Engine::sequence(const SequenceOptions& options) const {
    auto state = make_sequence(state_, options);
    if (!state) return std::unexpected(state.error());
    return Sequence(std::move(*state));
}

Result<std::vector<Token>> Engine::tokenize(std::string_view text, bool special) const {
    return state_->vocabulary.tokenize(text, {.around = special, .written_out = special});
}

std::optional<Token> Engine::first_token() const {
    return state_->vocabulary.first_token();
}

Result<std::string> Engine::chat_prompt(std::span<const ChatMessage> messages, const ChatOptions& options) const {
    auto rendered = render_chat(state_->vocabulary, messages, options);
    if (!rendered) return std::unexpected(rendered.error());
    return std::move(rendered->text);
}

Result<std::string> Engine::chat_prompt(std::span<const ChatMessage> messages, bool answer,
                                        const std::string& template_name) const {
    return chat_prompt(messages, {.add_generation_prompt = answer, .template_name = template_name});
}

Result<std::string> Engine::chat_prompt(const std::string& message) const {
    const ChatMessage user{.role = "user", .content = message};
    return chat_prompt({&user, 1});
}

bool Engine::has_chat_template() const {
    return state_->file.has("tokenizer.chat_template");
}

Result<std::vector<Token>> Engine::chat_tokens(std::span<const ChatMessage> messages,
                                               const ChatOptions& options) const {
    const auto rendered = render_chat(state_->vocabulary, messages, options);
    if (!rendered) return std::unexpected(rendered.error());
    return tokenize_chat(state_->vocabulary, *rendered, false);
}

std::string Engine::piece(Token token, bool special) const {
    return state_->vocabulary.piece(token, special);
}

bool Engine::is_end_of_generation(Token token) const {
    return state_->vocabulary.is_end_of_generation(token);
}

int32_t Engine::threads() const {
    return state_->compute.n_threads();
}

const ModelInfo& Engine::info() const {
    return state_->info;
}

Result<KvTokenBytes> Engine::kv_token_bytes(const std::string& cache_type_k, const std::string& cache_type_v) const {
    const auto& h = state_->hparams;
    const auto whole = make_kv_shape(h, h.heads_of_whole(), cache_type_k, cache_type_v);
    if (!whole) return std::unexpected(whole.error());
    const auto swa = make_kv_shape(h, h.swa_heads, cache_type_k, cache_type_v);
    if (!swa) return std::unexpected(swa.error());
    return KvTokenBytes{.layer = whole->token_bytes(), .swa_layer = swa->token_bytes()};
}

uint64_t Engine::kv_bytes(const KvTokenBytes& token, int64_t n_tokens, int64_t per_layer) const {
    const auto& info = state_->info;
    const auto of = [](int64_t n_layer, int64_t n, uint64_t bytes) {
        return static_cast<uint64_t>(n_layer * n) * bytes;
    };
    return of(info.n_kv_layers - info.n_swa_layers, std::min(n_tokens, per_layer), token.layer) +
           of(info.n_swa_layers, std::min<int64_t>(n_tokens, info.n_swa), token.swa_layer) + info.recurrent_bytes;
}

}  // namespace cake
