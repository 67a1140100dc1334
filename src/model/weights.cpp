#include "model/weights.hpp"

#include <algorithm>
#include <format>
#include <map>
#include <set>
#include <string>

namespace cake {

namespace {

/// What a tensor is used for decides which layouts the device can have it in.
enum class TensorUse { matrix, table, vector };

std::string shape_text(const ggml_tensor* tensor) {
    std::string text;
    for (int d = 0; d < ggml_n_dims(tensor); d++) text += std::format("{}{}", d == 0 ? "" : " x ", tensor->ne[d]);
    return text;
}

class Loader {
  public:
    Loader(const GgufFile& file, const Hparams& hparams, const Compute& compute, bool repack)
        : file_(file), hparams_(hparams), compute_(compute) {
        if (repack) repacked_ = compute.repacked_buffer_types();
    }

    Result<Weights> load() {
        // Every tensor of the file once, and the output matrix a second time where it is tied.
        const auto n_tensors = static_cast<size_t>(gguf_get_n_tensors(file_.metadata())) + 1;
        weights_.context.reset(
            ggml_init({.mem_size = n_tensors * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
        declare();
        refuse_unused();
        if (!error_.empty()) return fail(std::format("{}: {}", file_.path(), error_));
        if (auto mapped = map_in_place(); !mapped) return std::unexpected(mapped.error());
        if (auto copied = copy_rest(); !copied) return std::unexpected(copied.error());
        return std::move(weights_);
    }

  private:
    void declare() {
        const auto& h = hparams_;
        const int64_t q = static_cast<int64_t>(h.head_dim_k) * h.n_head;
        const int64_t k = static_cast<int64_t>(h.head_dim_k) * h.n_head_kv;
        const int64_t v = static_cast<int64_t>(h.head_dim_v) * h.n_head_kv;
        const int64_t o = static_cast<int64_t>(h.head_dim_v) * h.n_head;

        weights_.token_embd = required("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::table);
        weights_.output_norm = required("output_norm.weight", {h.n_embd}, TensorUse::vector);
        weights_.output = optional("output.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix);
        if (weights_.output == nullptr)
            weights_.output = add("token_embd.weight", {h.n_embd, h.n_vocab}, TensorUse::matrix);
        weights_.rope_freqs = optional("rope_freqs.weight", {h.n_rot / 2}, TensorUse::vector);
        for (int32_t i = 0; i < h.n_layer && error_.empty(); i++) {
            const auto name = [i](const char* rest) { return std::format("blk.{}.{}", i, rest); };
            weights_.layers.push_back({
                .attn_norm = required(name("attn_norm.weight"), {h.n_embd}, TensorUse::vector),
                .attn_q = required(name("attn_q.weight"), {h.n_embd, q}, TensorUse::matrix),
                .attn_k = required(name("attn_k.weight"), {h.n_embd, k}, TensorUse::matrix),
                .attn_v = required(name("attn_v.weight"), {h.n_embd, v}, TensorUse::matrix),
                .attn_output = required(name("attn_output.weight"), {o, h.n_embd}, TensorUse::matrix),
                .attn_q_bias = optional(name("attn_q.bias"), {q}, TensorUse::vector),
                .attn_k_bias = optional(name("attn_k.bias"), {k}, TensorUse::vector),
                .attn_v_bias = optional(name("attn_v.bias"), {v}, TensorUse::vector),
                .attn_output_bias = optional(name("attn_output.bias"), {h.n_embd}, TensorUse::vector),
                .ffn_norm = required(name("ffn_norm.weight"), {h.n_embd}, TensorUse::vector),
                .ffn_gate = required(name("ffn_gate.weight"), {h.n_embd, h.n_ff}, TensorUse::matrix),
                .ffn_up = required(name("ffn_up.weight"), {h.n_embd, h.n_ff}, TensorUse::matrix),
                .ffn_down = required(name("ffn_down.weight"), {h.n_ff, h.n_embd}, TensorUse::matrix),
                .ffn_gate_bias = optional(name("ffn_gate.bias"), {h.n_ff}, TensorUse::vector),
                .ffn_up_bias = optional(name("ffn_up.bias"), {h.n_ff}, TensorUse::vector),
                .ffn_down_bias = optional(name("ffn_down.bias"), {h.n_embd}, TensorUse::vector),
            });
        }
    }

    ggml_tensor* required(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
        if (file_.tensor(name) == nullptr) {
            note(std::format("the tensor {} is missing", name));
            return nullptr;
        }
        return add(name, shape, use);
    }

    ggml_tensor* optional(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
        return file_.tensor(name) == nullptr ? nullptr : add(name, shape, use);
    }

    ggml_tensor* add(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
        const ggml_tensor* source = file_.tensor(name);
        if (source == nullptr || !error_.empty()) return nullptr;
        std::vector<int64_t> wanted(shape);
        wanted.resize(GGML_MAX_DIMS, 1);
        if (!std::ranges::equal(wanted, source->ne)) {
            std::string text;
            for (const int64_t n : shape) text += std::format("{}{}", text.empty() ? "" : " x ", n);
            note(std::format("the tensor {} has the shape {}; {} is needed", name, shape_text(source), text));
            return nullptr;
        }
        if (!computable(source->type, use)) {
            note(std::format("the tensor {} is of type {}, which ggml cannot compute with here", name,
                             ggml_type_name(source->type)));
            return nullptr;
        }
        ggml_tensor* tensor = ggml_dup_tensor(weights_.context.get(), source);
        ggml_set_name(tensor, name.c_str());
        uses_[tensor] = use;
        if (used_.insert(name).second) weights_.n_bytes += ggml_nbytes(tensor);
        return tensor;
    }

    static bool computable(ggml_type type, TensorUse use) {
        if (type == GGML_TYPE_F32) return true;
        if (use == TensorUse::vector) return false;
        if (type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
        return ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float != nullptr;
    }

    void refuse_unused() {
        for (int64_t i = 0; i < gguf_get_n_tensors(file_.metadata()); i++) {
            const std::string name = gguf_get_tensor_name(file_.metadata(), i);
            // Old converters wrote each layer's rope frequencies as a tensor; they follow from the metadata.
            if (used_.contains(name) || name.ends_with("attn_rot_embd.weight") || name.ends_with("rope_freqs.weight"))
                continue;
            note(std::format("the tensor {} is not one that the architecture {} with {} layers has", name,
                             hparams_.architecture->name, hparams_.n_layer));
            return;
        }
    }

    /// Whether the device computes this product with the weights in a buffer of the given type.
    bool supports(ggml_backend_buffer_type_t type, const ggml_tensor* tensor) const {
        const ggml_context_ptr context(
            ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
        ggml_tensor* weight = ggml_dup_tensor(context.get(), tensor);
        ggml_tensor* input = ggml_new_tensor_2d(context.get(), GGML_TYPE_F32, tensor->ne[0], 512);
        ggml_tensor* product = ggml_mul_mat(context.get(), weight, input);
        const ggml_backend_buffer_ptr probe(ggml_backend_buft_alloc_buffer(type, 0));
        if (!probe) return false;
        weight->buffer = probe.get();
        return ggml_backend_dev_supports_op(compute_.device(), product);
    }

    ggml_backend_buffer_type_t repacked_type(ggml_tensor* tensor) const {
        if (uses_.at(tensor) != TensorUse::matrix) return nullptr;
        const auto found = std::ranges::find_if(repacked_, [&](auto* type) { return supports(type, tensor); });
        return found == repacked_.end() ? nullptr : *found;
    }

    /// Gives the tensors that need no other layout their place in the mapped file.
    Result<void> map_in_place() {
        ggml_backend_dev_props props;
        ggml_backend_dev_get_props(compute_.device(), &props);
        if (!props.caps.buffer_from_host_ptr) return {};
        const auto bytes = file_.mapping().bytes();
        auto* base = const_cast<std::byte*>(bytes.data());
        ggml_backend_buffer_ptr buffer;
        for (auto [tensor, use] : uses_) {
            const auto data = file_.data(tensor);
            const size_t alignment = ggml_backend_buft_get_alignment(compute_.buffer_type());
            const bool aligned = reinterpret_cast<uintptr_t>(data.data()) % alignment == 0;
            if (!aligned || repacked_type(tensor) != nullptr) continue;
            if (!buffer) {
                buffer.reset(
                    ggml_backend_dev_buffer_from_host_ptr(compute_.device(), base, bytes.size(), bytes.size()));
                if (!buffer) return fail(file_.path() + ": the device cannot use the mapped file");
                ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            }
            ggml_backend_tensor_alloc(buffer.get(), tensor, const_cast<std::byte*>(data.data()));
        }
        if (buffer) weights_.buffers.push_back(std::move(buffer));
        return {};
    }

    /// Copies the others, one buffer for each layout.
    Result<void> copy_rest() {
        std::map<ggml_backend_buffer_type_t, std::vector<ggml_tensor*>> by_type;
        for (auto [tensor, use] : uses_) {
            if (tensor->data != nullptr) continue;
            auto* type = repacked_type(tensor);
            by_type[type != nullptr ? type : compute_.buffer_type()].push_back(tensor);
        }
        for (auto& [type, tensors] : by_type) {
            size_t n_bytes = 0;
            const size_t alignment = ggml_backend_buft_get_alignment(type);
            for (const auto* tensor : tensors)
                n_bytes += GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensor), alignment);
            ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, n_bytes + alignment));
            if (!buffer)
                return fail(std::format("{}: {} MiB for the weights cannot be had", file_.path(), n_bytes >> 20U));
            ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
            ggml_tallocr place = ggml_tallocr_new(buffer.get());
            for (auto* tensor : tensors) {
                ggml_tallocr_alloc(&place, tensor);
                const auto data = file_.data(tensor);
                ggml_backend_tensor_set(tensor, data.data(), 0, data.size());
                weights_.n_copied += data.size();
                // At once, so that no more than one tensor is in memory twice.
                file_.mapping().drop_pages(data);
            }
            weights_.buffers.push_back(std::move(buffer));
        }
        return {};
    }

    void note(std::string message) {
        if (error_.empty()) error_ = std::move(message);
    }

    const GgufFile& file_;
    const Hparams& hparams_;
    const Compute& compute_;
    std::vector<ggml_backend_buffer_type_t> repacked_;
    std::map<ggml_tensor*, TensorUse> uses_;
    std::set<std::string> used_;
    std::string error_;
    Weights weights_;
};

}  // namespace

Result<Weights> load_weights(const GgufFile& file, Hparams& hparams, const Compute& compute, bool repack) {
    const ggml_tensor* embeddings = file.tensor("token_embd.weight");
    if (embeddings == nullptr) {
        return fail(file.path() + (gguf_get_n_tensors(file.metadata()) == 0
                                       ? ": holds a vocabulary but no weights; name the file of a whole model"
                                       : ": the tensor token_embd.weight is missing"));
    }
    if (embeddings->ne[1] > (1 << 26)) return fail(file.path() + ": the tensor token_embd.weight has too many rows");
    hparams.n_vocab = static_cast<int32_t>(embeddings->ne[1]);
    return Loader(file, hparams, compute, repack).load();
}

}  // namespace cake
