#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

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
    /// Releases the memory of a part of a mapped file. It is loaded again when it is read.
    static void drop_pages(std::span<const std::byte> part);

  private:
    explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::span<const std::byte> bytes_;
};

/// One GGUF file: a whole model, or one of the files that a model is split over.
struct GgufPart {
    std::string path;
    MappedFile mapping;
    gguf_context_ptr metadata;
    ggml_context_ptr tensors;  // shapes and types; the data are in the mapped file

    /// Opens and checks the file (see check_gguf). Errors name the path.
    static Result<GgufPart> open(const std::string& path);

    /// An integer from the metadata. Empty if the key is missing; an error if the value has another type.
    Result<std::optional<uint32_t>> u32(const std::string& key) const;
    /// The error for an existing value of another type.
    std::unexpected<Error> wrong_type(const std::string& key, std::string_view wanted) const;

    /// The bytes before the tensor data.
    std::span<const std::byte> header() const;
    std::span<const std::byte> data(const ggml_tensor* tensor) const;
};

}  // namespace cake
