#pragma once

#include <ggml-cpp.h>

#include <initializer_list>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "model/compute.hpp"
#include "model/gguf_file.hpp"

namespace cake {

/// What a tensor is used for decides which layouts the device can have it in.
enum class TensorUse {
    matrix,   // multiplied with
    experts,  // multiplied with, one of several [n_in, n_out, n_expert]
    table,    // rows are taken
    vector,   // added or multiplied value by value
};

/// A matrix that is multiplied with, and what is added to the product; null where the model has none.
struct Linear {
    ggml_tensor* weight = nullptr;  // [n_in, n_out], or of experts [n_in, n_out, n_expert]
    ggml_tensor* bias = nullptr;    // [n_out], [n_out, n_expert]
};

/// What a norm multiplies with, and what it adds; null where the model has none.
struct Norm {
    ggml_tensor* weight = nullptr;
    ggml_tensor* bias = nullptr;
};

/// Tensors on their device, and what holds them.
struct LoadedTensors {
    size_t n_bytes = 0;   // of all as stored in the file
    size_t n_copied = 0;  // of those that were copied into memory
    std::vector<ggml_backend_buffer_ptr> buffers;
    ggml_context_ptr context;
};

/// Takes tensors of a file by name and shape, then gives each its place: mapped from the file where the device computes
/// on it as it is there, copied into a repacked layout where the device has a faster one.
class TensorLoader {
  public:
    /// `file` and `compute` outlive this.
    TensorLoader(const GgufFile& file, const Compute& compute, bool repack);

    /// Null where the file lacks the tensor or it cannot be used; where that is an error it is noted.
    ggml_tensor* required(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    ggml_tensor* optional(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    ggml_tensor* take(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use, bool needed);
    /// `name`.weight, [n_in, n_out], and `name`.bias where there is one, or has to be.
    Linear linear(const std::string& name, int64_t n_in, int64_t n_out, bool needs_bias);
    /// The same of `n_expert` experts.
    Linear experts(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_expert, bool needs_bias);
    /// `name`.weight and, where `has_bias`, `name`.bias, both [n].
    Norm norm(const std::string& name, int64_t n, bool has_bias = false);
    bool has(const std::string& name) const { return file_.tensor(name) != nullptr; }

    /// Puts as many as can be, from the first, one under another into the first, so that they are one product; those
    /// become null. Only what is copied anyhow is joined.
    void join(std::span<Linear* const> parts);

    /// Notes a tensor of the file that was not taken, as one that `owner` does not have.
    void refuse_unused(const std::string& owner);

    /// The first error that was noted, or all tensors in their places. Once, at the end.
    Result<LoadedTensors> load();

  private:
    struct Entry {
        TensorUse use;
        std::vector<const ggml_tensor*> sources;  // of the file, one under another
    };

    ggml_tensor* add(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    bool supports(ggml_backend_buffer_type_t type, const ggml_tensor* tensor, TensorUse use) const;
    ggml_backend_buffer_type_t repacked_type(const ggml_tensor* tensor, TensorUse use) const;
    ggml_tensor* joined(std::span<ggml_tensor* const> parts);
    bool join_all(std::span<Linear* const> parts);
    Result<void> map_in_place();
    Result<void> copy_rest();
    void copy(ggml_tensor* tensor, const Entry& entry);
    void note(std::string message);

    const GgufFile& file_;
    const Compute& compute_;
    std::vector<ggml_backend_buffer_type_t> repacked_;
    std::map<ggml_tensor*, Entry> entries_;
    std::set<std::string> used_;
    std::string error_;
    LoadedTensors loaded_;
};

}  // namespace cake
