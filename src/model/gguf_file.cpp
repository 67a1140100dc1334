#include "model/gguf_file.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "model/gguf_parts.hpp"

namespace cake {

Result<GgufFile> GgufFile::open(const std::string& path) {
    auto parts = open_gguf_parts(path);
    if (!parts) return std::unexpected(parts.error());
    return GgufFile(std::move(*parts));
}

GgufFile::GgufFile(std::vector<GgufPart> parts) : parts_(std::move(parts)) {
    for (size_t i = 0; i < parts_.size(); i++) {
        auto* context = parts_[i].tensors.get();
        for (auto* t = ggml_get_first_tensor(context); t != nullptr; t = ggml_get_next_tensor(context, t)) {
            tensors_.push_back(t);
            part_of_.emplace(ggml_get_name(t), i);
        }
    }
}

ggml_tensor* GgufFile::tensor(const std::string& name) const {
    const auto part = part_of_.find(name);
    return part == part_of_.end() ? nullptr : ggml_get_tensor(parts_[part->second].tensors.get(), name.c_str());
}

const GgufPart& GgufFile::part_of(const ggml_tensor* tensor) const {
    return parts_[part_of_.find(ggml_get_name(tensor))->second];
}

Result<std::optional<uint32_t>> GgufFile::u32(const std::string& key) const {
    return parts_.front().u32(key);
}

Result<std::optional<float>> GgufFile::f32(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata(), id) != GGUF_TYPE_FLOAT32) return parts_.front().wrong_type(key, "f32");
    return gguf_get_val_f32(metadata(), id);
}

Result<std::optional<bool>> GgufFile::boolean(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata(), id) != GGUF_TYPE_BOOL) return parts_.front().wrong_type(key, "bool");
    return gguf_get_val_bool(metadata(), id);
}

Result<std::optional<std::string>> GgufFile::string(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata(), id) != GGUF_TYPE_STRING) return parts_.front().wrong_type(key, "string");
    return gguf_get_val_str(metadata(), id);
}

Result<std::optional<double>> GgufFile::number(const std::string& key) const {
    const auto* meta = metadata();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(meta, id)) {
        case GGUF_TYPE_BOOL:
            return gguf_get_val_bool(meta, id) ? 1 : 0;
        case GGUF_TYPE_FLOAT32:
            return gguf_get_val_f32(meta, id);
        case GGUF_TYPE_FLOAT64:
            return gguf_get_val_f64(meta, id);
        default: {
            const auto value = u32(key);
            if (!value) return std::unexpected(value.error());
            return *value;
        }
    }
}

bool GgufFile::is_array(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata(), key.c_str());
    return id >= 0 && gguf_get_kv_type(metadata(), id) == GGUF_TYPE_ARRAY;
}

Result<std::optional<std::vector<bool>>> GgufFile::booleans(const std::string& key) const {
    const auto* meta = metadata();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    if (!is_array(key)) return parts_.front().wrong_type(key, "array of bools");
    const size_t n = gguf_get_arr_n(meta, id);
    std::vector<bool> flags(n);
    const auto read = [&](const auto* values) { std::transform(values, values + n, flags.begin(), std::identity{}); };
    switch (gguf_get_arr_type(meta, id)) {
        case GGUF_TYPE_BOOL:
        case GGUF_TYPE_UINT8:
            read(static_cast<const uint8_t*>(gguf_get_arr_data(meta, id)));
            return flags;
        case GGUF_TYPE_INT32:
        case GGUF_TYPE_UINT32:
            read(static_cast<const uint32_t*>(gguf_get_arr_data(meta, id)));
            return flags;
        default:
            return parts_.front().wrong_type(key, "array of bools");
    }
}

Result<std::optional<std::vector<int32_t>>> GgufFile::integers(const std::string& key) const {
    const auto* meta = metadata();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    const auto wrong = [&] { return parts_.front().wrong_type(key, "array of 32-bit integers"); };
    if (!is_array(key)) return wrong();
    const auto type = gguf_get_arr_type(meta, id);
    if (type != GGUF_TYPE_INT32 && type != GGUF_TYPE_UINT32) return wrong();
    const auto* values = static_cast<const int32_t*>(gguf_get_arr_data(meta, id));
    std::vector<int32_t> integers(values, values + gguf_get_arr_n(meta, id));
    if (type == GGUF_TYPE_UINT32 && std::ranges::any_of(integers, [](int32_t n) { return n < 0; })) return wrong();
    return integers;
}

Result<std::optional<std::vector<float>>> GgufFile::numbers(const std::string& key) const {
    const auto* meta = metadata();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(meta, id) == GGUF_TYPE_FLOAT32) return std::vector{gguf_get_val_f32(meta, id)};
    if (!is_array(key) || gguf_get_arr_type(meta, id) != GGUF_TYPE_FLOAT32)
        return parts_.front().wrong_type(key, "array of f32");
    const auto* values = static_cast<const float*>(gguf_get_arr_data(meta, id));
    return std::vector(values, values + gguf_get_arr_n(meta, id));
}

}  // namespace cake
