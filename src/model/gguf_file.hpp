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

/// The GGUF file of a model, or the files that it is split over: metadata, and tensors as ggml knows them, whose data
/// stay in the mapped files.
class GgufFile {
  public:
    /// Opens and checks the file and, if it is the first of several, the others (see open_gguf_parts).
    static Result<GgufFile> open(const std::string& path);

    /// Path and metadata of the first part, which contains the metadata of the model.
    const std::string& path() const { return parts_.front().path; }
    const gguf_context* metadata() const { return parts_.front().metadata.get(); }
    std::span<const GgufPart> parts() const { return parts_; }

    /// A metadata value. Empty if the key is missing; an error if the value has another type.
    Result<std::optional<uint32_t>> u32(const std::string& key) const;
    Result<std::optional<float>> f32(const std::string& key) const;
    Result<std::optional<bool>> boolean(const std::string& key) const;
    Result<std::optional<std::string>> string(const std::string& key) const;
    /// A number of any type; a bool counts as 0 or 1.
    Result<std::optional<double>> number(const std::string& key) const;
    /// An array of bools, or of integers that represent them.
    Result<std::optional<std::vector<bool>>> booleans(const std::string& key) const;
    /// An array of 32-bit integers, all of them within int32.
    Result<std::optional<std::vector<int32_t>>> integers(const std::string& key) const;
    /// An array of f32, or a single f32.
    Result<std::optional<std::vector<float>>> numbers(const std::string& key) const;
    bool is_array(const std::string& key) const;
    bool has(const std::string& key) const { return gguf_find_key(metadata(), key.c_str()) >= 0; }

    /// Returns null if the file has no such tensor. The tensor has a shape and a type but no data; see data().
    ggml_tensor* tensor(const std::string& name) const;
    /// Tensors of all parts, in file order.
    std::span<ggml_tensor* const> tensors() const { return tensors_; }
    const GgufPart& part_of(const ggml_tensor* tensor) const;
    std::span<const std::byte> data(const ggml_tensor* tensor) const { return part_of(tensor).data(tensor); }

  private:
    explicit GgufFile(std::vector<GgufPart> parts);

    std::vector<GgufPart> parts_;  // at least one
    std::vector<ggml_tensor*> tensors_;
    std::unordered_map<std::string, size_t> part_of_;  // index of the part, by name of the tensor
};

}  // namespace cake
