#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "cake/error.hpp"
#include "model/gguf_part.hpp"

namespace cake {

/// A model's GGUF file, or the files that it is split over: metadata, and tensors as ggml knows them, with their data
/// still in the mapped files.
class GgufFile {
  public:
    /// Opens and checks the file and, where it is the first of several, the others (see open_gguf_parts).
    static Result<GgufFile> open(const std::string& path);

    /// Path and metadata of the first part, which has those of the model.
    const std::string& path() const { return parts_.front().path; }
    const gguf_context* metadata() const { return parts_.front().metadata.get(); }
    std::span<const GgufPart> parts() const { return parts_; }

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
    bool has(const std::string& key) const { return gguf_find_key(metadata(), key.c_str()) >= 0; }

    /// Null where the file has no such tensor. It has shape and type; its data are data(tensor).
    ggml_tensor* tensor(const std::string& name) const;
    /// Of all parts, in their order.
    std::span<ggml_tensor* const> tensors() const { return tensors_; }
    const GgufPart& part_of(const ggml_tensor* tensor) const;
    std::span<const std::byte> data(const ggml_tensor* tensor) const { return part_of(tensor).data(tensor); }

  private:
    explicit GgufFile(std::vector<GgufPart> parts);

    std::vector<GgufPart> parts_;  // at least one
    std::vector<ggml_tensor*> tensors_;
    std::unordered_map<std::string, size_t> part_of_;  // by the tensor's name
};

}  // namespace cake
