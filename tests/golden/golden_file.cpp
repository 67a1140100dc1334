#include "golden/golden_file.hpp"

#include <fmt/format.h>

namespace cake::test {

GoldenFile::GoldenFile(const std::filesystem::path& path) {
    ggml_context* context = nullptr;
    file_.reset(gguf_init_from_file(path.c_str(), {.no_alloc = false, .ctx = &context}));
    context_.reset(context);
    if (!file_ || !context_) throw std::runtime_error(fmt::format("{} is not a GGUF file", path.string()));
}

int32_t GoldenFile::integer(const std::string& name) const {
    return gguf_get_val_i32(file_.get(), find(name, GGUF_TYPE_INT32));
}

float GoldenFile::real(const std::string& name) const {
    return gguf_get_val_f32(file_.get(), find(name, GGUF_TYPE_FLOAT32));
}

std::string GoldenFile::text(const std::string& name) const {
    return gguf_get_val_str(file_.get(), find(name, GGUF_TYPE_STRING));
}

bool GoldenFile::has(const std::string& name) const {
    return gguf_find_key(file_.get(), ("case." + name).c_str()) >= 0;
}

int64_t GoldenFile::find(const std::string& name, gguf_type type) const {
    const int64_t key = gguf_find_key(file_.get(), ("case." + name).c_str());
    if (key < 0) throw std::runtime_error("there is no key case." + name);
    if (gguf_get_kv_type(file_.get(), key) != type) throw std::runtime_error("another type is stored in case." + name);
    return key;
}

const ggml_tensor* GoldenFile::find_tensor(const std::string& name, ggml_type type,
                                           const std::vector<int64_t>& shape) const {
    const ggml_tensor* found = ggml_get_tensor(context_.get(), name.c_str());
    if (found == nullptr) throw std::runtime_error("there is no tensor " + name);
    if (found->type != type) throw std::runtime_error("another type is stored in " + name);
    for (size_t i = 0; i < GGML_MAX_DIMS; i++) {
        const int64_t expected = i < shape.size() ? shape[i] : 1;
        if (expected >= 0 && found->ne[i] != expected) throw std::runtime_error("another shape is stored in " + name);
    }
    return found;
}

}  // namespace cake::test
