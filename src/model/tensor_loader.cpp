#include "model/tensor_loader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace cake {

namespace {

std::string shape_text(const ggml_tensor* tensor) {
    std::string text;
    for (int d = 0; d < ggml_n_dims(tensor); d++) text += fmt::format("{}{}", d == 0 ? "" : " x ", tensor->ne[d]);
    return text;
}

bool computable(ggml_type type, TensorUse use) {
    if (type == GGML_TYPE_F32) return true;
    if (use == TensorUse::vector) return false;
    if (type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
    return ggml_is_quantized(type) && ggml_get_type_traits(type)->to_float != nullptr;
}

/// Twice the tensors of the file, because some are taken twice or joined.
size_t most_tensors(const GgufFile& file) {
    return 2 * file.tensors().size() + 1;
}

}  // namespace

TensorLoader::TensorLoader(const GgufFile& file, const Compute& compute, bool repack)
    : file_(file), compute_(compute), device_(compute.cpu()) {
    if (repack) repacked_ = compute.repacked_buffer_types();
    loaded_.context.reset(
        ggml_init({.mem_size = most_tensors(file) * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
}

ggml_tensor* TensorLoader::required(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
    if (file_.tensor(name) == nullptr) {
        note(fmt::format("the tensor {} is missing", name));
        return nullptr;
    }
    return add(name, shape, use);
}

ggml_tensor* TensorLoader::optional(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
    return file_.tensor(name) == nullptr ? nullptr : add(name, shape, use);
}

ggml_tensor* TensorLoader::take(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use,
                                bool needed) {
    return needed ? required(name, shape, use) : optional(name, shape, use);
}

Linear TensorLoader::linear(const std::string& name, int64_t n_in, int64_t n_out, bool needs_bias) {
    return {.weight = required(name + ".weight", {n_in, n_out}, TensorUse::matrix),
            .bias = take(name + ".bias", {n_out}, TensorUse::vector, needs_bias)};
}

Linear TensorLoader::experts(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_expert, bool needs_bias) {
    return {.weight = required(name + ".weight", {n_in, n_out, n_expert}, TensorUse::experts),
            .bias = take(name + ".bias", {n_out, n_expert}, TensorUse::vector, needs_bias)};
}

Norm TensorLoader::norm(const std::string& name, int64_t n, bool has_bias) {
    return {.weight = required(name + ".weight", {n}, TensorUse::vector),
            .bias = has_bias ? required(name + ".bias", {n}, TensorUse::vector) : nullptr};
}

ggml_tensor* TensorLoader::add(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use) {
    const ggml_tensor* source = file_.tensor(name);
    if (source == nullptr || error_) return nullptr;
    std::vector<int64_t> wanted(shape);
    wanted.resize(GGML_MAX_DIMS, 1);
    if (!std::ranges::equal(wanted, source->ne)) {
        std::string text;
        for (const int64_t n : shape) text += fmt::format("{}{}", text.empty() ? "" : " x ", n);
        note(fmt::format("the tensor {} has the shape {}; {} is needed", name, shape_text(source), text));
        return nullptr;
    }
    if (!computable(source->type, use)) {
        note(fmt::format("the tensor {} is of type {}, which ggml cannot use in this computation", name,
                         ggml_type_name(source->type)),
             Error::Code::unsupported);
        return nullptr;
    }
    ggml_tensor* tensor = ggml_dup_tensor(loaded_.context.get(), source);
    ggml_set_name(tensor, name.c_str());
    entries_[tensor] = {.use = use, .device = device_, .sources = {source}};
    if (used_.insert(name).second) loaded_.n_bytes += ggml_nbytes(tensor);
    return tensor;
}

void TensorLoader::join(std::span<Linear* const> parts) {
    for (size_t n = parts.size(); n > 1; n--)
        if (join_all(parts.first(n))) return;
}

bool TensorLoader::join_all(std::span<Linear* const> parts) {
    std::vector<ggml_tensor*> weights;
    std::vector<ggml_tensor*> biases;
    for (const Linear* part : parts) {
        if (part->weight == nullptr || part->weight->type != parts[0]->weight->type) return false;
        if ((part->bias == nullptr) != (parts[0]->bias == nullptr)) return false;
        weights.push_back(part->weight);
        if (part->bias != nullptr) biases.push_back(part->bias);
    }
    const auto is_repacked = [&](const ggml_tensor* weight) {
        return repacked_type(weight, entries_.at(const_cast<ggml_tensor*>(weight))) != nullptr;
    };
    if (!std::ranges::all_of(weights, is_repacked)) return false;
    const Linear whole{.weight = joined(weights), .bias = biases.empty() ? nullptr : joined(biases)};
    for (Linear* part : parts) *part = {};
    *parts[0] = whole;
    return true;
}

ggml_tensor* TensorLoader::joined(std::span<ggml_tensor* const> parts) {
    const int rows = entries_.at(parts[0]).use == TensorUse::vector ? 0 : 1;
    std::vector<int64_t> shape(parts[0]->ne, parts[0]->ne + rows + 1);
    shape.back() = 0;
    Entry whole{.use = entries_.at(parts[0]).use, .device = entries_.at(parts[0]).device, .sources = {}};
    for (ggml_tensor* part : parts) {
        shape.back() += part->ne[rows];
        whole.sources.append_range(entries_.at(part).sources);
        entries_.erase(part);
    }
    ggml_tensor* tensor =
        ggml_new_tensor(loaded_.context.get(), parts[0]->type, static_cast<int>(shape.size()), shape.data());
    ggml_set_name(tensor, parts[0]->name);
    entries_[tensor] = std::move(whole);
    return tensor;
}

void TensorLoader::skip(const std::string& prefix) {
    for (const auto* tensor : file_.tensors()) {
        const std::string name = ggml_get_name(tensor);
        if (name.starts_with(prefix)) used_.insert(name);
    }
}

void TensorLoader::refuse_unused(const std::string& owner) {
    for (const auto* tensor : file_.tensors()) {
        const std::string name = ggml_get_name(tensor);
        // Old converters wrote the RoPE frequencies of each layer as a tensor; they follow from the metadata.
        if (used_.contains(name) || name.ends_with("attn_rot_embd.weight") || name.ends_with("rope_freqs.weight"))
            continue;
        note(fmt::format("the tensor {} is not one that {} has", name, owner), Error::Code::unsupported);
        return;
    }
}

Result<LoadedTensors> TensorLoader::load() {
    if (error_) return fail(error_->code, fmt::format("{}: {}", file_.path(), error_->message));
    if (auto mapped = map_in_place(); !mapped) return std::unexpected(mapped.error());
    if (auto copied = copy_rest(); !copied) return std::unexpected(copied.error());
    return std::move(loaded_);
}

/// True if the device supports the product with the weight in a buffer of this type.
bool TensorLoader::supports(ggml_backend_dev_t device, ggml_backend_buffer_type_t type, const ggml_tensor* tensor,
                            TensorUse use) const {
    constexpr int64_t kTokens = 512;
    const ggml_context_ptr context(
        ggml_init({.mem_size = 4 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* weight = ggml_dup_tensor(context.get(), tensor);
    const bool of_experts = use == TensorUse::experts;
    ggml_tensor* input = ggml_new_tensor_3d(context.get(), GGML_TYPE_F32, tensor->ne[0], of_experts ? 1 : kTokens,
                                            of_experts ? kTokens : tensor->ne[2]);
    ggml_tensor* product = of_experts ? ggml_mul_mat_id(context.get(), weight, input,
                                                        ggml_new_tensor_2d(context.get(), GGML_TYPE_I32, 1, kTokens))
                                      : ggml_mul_mat(context.get(), weight, input);
    const ggml_backend_buffer_ptr probe(ggml_backend_buft_alloc_buffer(type, 0));
    if (!probe) return false;
    weight->buffer = probe.get();
    return ggml_backend_dev_supports_op(device, product);
}

/// Tables are not worth the memory of another device, since few of their rows are read.
bool TensorLoader::is_on_cpu(const ggml_tensor* tensor, const Entry& entry) const {
    if (entry.device == compute_.cpu() || entry.use == TensorUse::table) return true;
    return entry.use != TensorUse::vector &&
           !supports(entry.device, ggml_backend_dev_buffer_type(entry.device), tensor, entry.use);
}

ggml_backend_buffer_type_t TensorLoader::repacked_type(const ggml_tensor* tensor, const Entry& entry) const {
    if (entry.use != TensorUse::matrix && entry.use != TensorUse::experts) return nullptr;
    if (!is_on_cpu(tensor, entry)) return nullptr;
    const auto can = [&](auto* type) { return supports(compute_.cpu(), type, tensor, entry.use); };
    const auto found = std::ranges::find_if(repacked_, can);
    return found == repacked_.end() ? nullptr : *found;
}

ggml_backend_buffer_type_t TensorLoader::type_for(const ggml_tensor* tensor, const Entry& entry) const {
    if (auto* repacked = repacked_type(tensor, entry); repacked != nullptr) return repacked;
    return ggml_backend_dev_buffer_type(is_on_cpu(tensor, entry) ? compute_.cpu() : entry.device);
}

/// Places the tensors that need no other layout in the mapped file.
Result<void> TensorLoader::map_in_place() {
    ggml_backend_dev_props props;
    ggml_backend_dev_get_props(compute_.cpu(), &props);
    if (!props.caps.buffer_from_host_ptr) return {};
    ggml_backend_buffer_type_t cpu_type = ggml_backend_dev_buffer_type(compute_.cpu());
    std::map<const GgufPart*, ggml_backend_buffer_ptr> buffers;
    for (auto& [tensor, entry] : entries_) {
        if (entry.sources.size() != 1 || type_for(tensor, entry) != cpu_type) continue;
        const auto data = file_.data(entry.sources[0]);
        const size_t alignment = ggml_backend_buft_get_alignment(cpu_type);
        if (reinterpret_cast<uintptr_t>(data.data()) % alignment != 0) continue;
        const auto& part = file_.part_of(entry.sources[0]);
        auto& buffer = buffers[&part];
        if (!buffer) {
            const auto bytes = part.mapping.bytes();
            buffer.reset(ggml_backend_dev_buffer_from_host_ptr(compute_.cpu(), const_cast<std::byte*>(bytes.data()),
                                                               bytes.size(), bytes.size()));
            if (!buffer) return fail(Error::Code::internal, part.path + ": the CPU backend cannot use the mapped file");
            ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        }
        ggml_backend_tensor_alloc(buffer.get(), tensor, const_cast<std::byte*>(data.data()));
    }
    for (auto& [part, buffer] : buffers) loaded_.buffers.push_back(std::move(buffer));
    return {};
}

/// Copies the remaining tensors, into one buffer for each layout, or several if a device limits the size of a buffer.
Result<void> TensorLoader::copy_rest() {
    std::map<ggml_backend_buffer_type_t, std::vector<ggml_tensor*>> by_type;
    for (auto& [tensor, entry] : entries_) {
        if (tensor->data != nullptr) continue;
        by_type[type_for(tensor, entry)].push_back(tensor);
    }
    for (const auto& [type, tensors] : by_type) {
        const size_t alignment = ggml_backend_buft_get_alignment(type);
        const size_t max_bytes = ggml_backend_buft_get_max_size(type);
        for (size_t begin = 0; begin < tensors.size();) {
            size_t n_bytes = alignment;
            size_t end = begin;
            for (; end < tensors.size(); end++) {
                const size_t more = GGML_PAD(ggml_backend_buft_get_alloc_size(type, tensors[end]), alignment);
                if (end > begin && (more > max_bytes || n_bytes > max_bytes - more)) break;
                n_bytes += more;
            }
            if (auto copied = copy_together(type, std::span(tensors).subspan(begin, end - begin), n_bytes); !copied)
                return copied;
            begin = end;
        }
    }
    return {};
}

/// Copies tensors into one buffer.
Result<void> TensorLoader::copy_together(ggml_backend_buffer_type_t type, std::span<ggml_tensor* const> tensors,
                                         size_t n_bytes) {
    ggml_backend_buffer_ptr buffer(ggml_backend_buft_alloc_buffer(type, n_bytes));
    if (!buffer)
        return fail(Error::Code::out_of_memory,
                    fmt::format("{}: cannot allocate {} MiB for the weights in the memory of {}: compute fewer layers "
                                "there (-ngl), or none (--device none)",
                                file_.path(), n_bytes >> 20U, ggml_backend_buft_name(type)));
    ggml_backend_buffer_set_usage(buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    ggml_tallocr place = ggml_tallocr_new(buffer.get());
    for (auto* tensor : tensors) {
        ggml_tallocr_alloc(&place, tensor);
        copy(tensor, entries_.at(tensor));
    }
    loaded_.buffers.push_back(std::move(buffer));
    return {};
}

void TensorLoader::copy(ggml_tensor* tensor, const Entry& entry) {
    std::vector<std::byte> whole;  // a repacked tensor must be written in one call
    auto data = file_.data(entry.sources[0]);
    if (entry.sources.size() > 1) {
        for (const auto* source : entry.sources) {
            whole.append_range(file_.data(source));
            MappedFile::drop_pages(file_.data(source));
        }
        data = whole;
    }
    ggml_backend_tensor_set(tensor, data.data(), 0, data.size());
    loaded_.n_copied += data.size();
    // Release the pages now, so that at most one tensor is in memory twice.
    for (const auto* source : entry.sources) MappedFile::drop_pages(file_.data(source));
}

void TensorLoader::note(std::string message, Error::Code code) {
    if (!error_) error_ = Error{std::move(message), code};
}

}  // namespace cake
