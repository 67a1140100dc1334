#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cake/error.hpp"

namespace cake {

/// A file mapped into memory, read-only.
class MappedFile {
  public:
    static Result<MappedFile> open(const std::string& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&&) = delete;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return bytes_; }
    /// Lets a part of the file leave memory; it comes back when it is read.
    void drop_pages(std::span<const std::byte> part) const;

  private:
    explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::span<const std::byte> bytes_;
};

/// A GGUF file: metadata, and tensors as ggml knows them, with their data still in the mapped file.
class GgufFile {
  public:
    /// Opens and checks (see check_gguf). Errors name the path.
    static Result<GgufFile> open(const std::string& path);

    const std::string& path() const { return path_; }
    const MappedFile& mapping() const { return mapping_; }
    const gguf_context* metadata() const { return metadata_.get(); }

    /// Metadata of the asked kind; nothing where the key is missing; an error where it has another type.
    Result<std::optional<uint32_t>> u32(const std::string& key) const;
    Result<std::optional<float>> f32(const std::string& key) const;
    Result<std::optional<bool>> boolean(const std::string& key) const;
    Result<std::optional<std::string>> string(const std::string& key) const;
    /// A number of any type; a bool counts as 0 or 1.
    Result<std::optional<double>> number(const std::string& key) const;
    /// An array of bools, or of whole numbers that stand for them.
    Result<std::optional<std::vector<bool>>> booleans(const std::string& key) const;
    bool is_array(const std::string& key) const;
    bool has(const std::string& key) const { return gguf_find_key(metadata_.get(), key.c_str()) >= 0; }

    /// Null where the file has no such tensor. It has shape and type; its data are data(tensor).
    ggml_tensor* tensor(const std::string& name) const { return ggml_get_tensor(tensors_.get(), name.c_str()); }
    ggml_context* tensors() const { return tensors_.get(); }
    std::span<const std::byte> data(const ggml_tensor* tensor) const;

  private:
    GgufFile(std::string path, MappedFile mapping) : path_(std::move(path)), mapping_(std::move(mapping)) {}

    std::string path_;
    MappedFile mapping_;
    gguf_context_ptr metadata_;
    ggml_context_ptr tensors_;
};

}  // namespace cake
