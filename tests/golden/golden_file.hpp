#pragma once

#include <ggml-cpp.h>
#include <gguf.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace cake::test {

/// One case file. Missing content throws an exception, which fails the test.
class GoldenFile {
  public:
    explicit GoldenFile(const std::filesystem::path& path);

    int32_t integer(const std::string& name) const;
    float real(const std::string& name) const;
    std::string text(const std::string& name) const;
    /// The authors' method; cake if the file does not say.
    std::string method() const { return has("method") ? text("method") : "cake"; }
    bool has(const std::string& name) const;

    /// Returns a tensor. It must have the given shape: fastest dimension first, -1 for any length.
    template <typename T>
    std::span<const T> tensor(const std::string& name, const std::vector<int64_t>& shape) const {
        const ggml_tensor* found = find_tensor(name, std::is_same_v<T, float> ? GGML_TYPE_F32 : GGML_TYPE_I32, shape);
        return {static_cast<const T*>(found->data), static_cast<size_t>(ggml_nelements(found))};
    }
    std::span<const float> floats(const std::string& name, const std::vector<int64_t>& shape) const {
        return tensor<float>(name, shape);
    }
    std::span<const int32_t> integers(const std::string& name, const std::vector<int64_t>& shape) const {
        return tensor<int32_t>(name, shape);
    }

  private:
    int64_t find(const std::string& name, gguf_type type) const;
    const ggml_tensor* find_tensor(const std::string& name, ggml_type type, const std::vector<int64_t>& shape) const;

    gguf_context_ptr file_;
    ggml_context_ptr context_;
};

}  // namespace cake::test
