#pragma once

#include <ggml-cpp.h>

#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "backend/compute.hpp"
#include "model/gguf_file.hpp"

namespace cake {

/// Use of a tensor, which decides the layouts that the device supports for it.
enum class TensorUse {
    matrix,   // matrix of a product
    experts,  // a stack of matrices, one for each expert: [n_in, n_out, n_expert]
    batch,    // a stack of matrices, one for each head of the input, [n_in, n_out, n_head], or used one by one
    table,    // looked up by row
    vector,   // added or multiplied elementwise
};

/// Weight and bias of a linear layer; null if the model has none.
struct Linear {
    ggml_tensor* weight = nullptr;  // [n_in, n_out], or [n_in, n_out, n_expert]
    ggml_tensor* bias = nullptr;    // [n_out], or [n_out, n_expert]
};

/// Weight and bias of a norm; null if the model has none.
struct Norm {
    ggml_tensor* weight = nullptr;
    ggml_tensor* bias = nullptr;
};

/// Tensors on their device, and the buffers that hold them.
struct LoadedTensors {
    size_t n_bytes = 0;   // size of all tensors as stored in the file
    size_t n_copied = 0;  // bytes that were copied into memory
    std::vector<ggml_backend_buffer_ptr> buffers;
    ggml_context_ptr context;
};

/// Takes tensors of a file by name and shape, then loads them into the memory of their device, or of the CPU if they
/// are tables or if the device cannot compute with them. On the CPU, they get a repacked layout if there is a faster
/// one for the tensor, and otherwise stay in the mapped file if possible.
class TensorLoader {
  public:
    /// `file` and `compute` must outlive this.
    TensorLoader(const GgufFile& file, const Compute& compute, bool repack);

    /// The device of the tensors that are taken from now on; before the first call, it is the CPU.
    void place(ggml_backend_dev_t device) { device_ = device; }

    /// Return null if the file does not have the tensor or if it cannot be used; if that is an error, it is recorded.
    ggml_tensor* required(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    ggml_tensor* optional(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    /// required() if `needed`, else optional().
    ggml_tensor* take(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use, bool needed);
    /// `name`.weight, [n_in, n_out], and `name`.bias, which is optional unless `needs_bias`.
    Linear linear(const std::string& name, int64_t n_in, int64_t n_out, bool needs_bias);
    /// The same for `n_expert` experts.
    Linear experts(const std::string& name, int64_t n_in, int64_t n_out, int64_t n_expert, bool needs_bias);
    /// `name`.weight and, if `has_bias`, `name`.bias, both [n].
    Norm norm(const std::string& name, int64_t n, bool has_bias = false);
    bool has(const std::string& name) const { return file_.tensor(name) != nullptr; }
    /// Number of rows of a tensor as the file has it; 0 if it has none.
    int64_t rows(const std::string& name) const { return has(name) ? file_.tensor(name)->ne[1] : 0; }
    /// Leaves out the tensors whose names begin with `prefix`: the model has them, but they are not used.
    void skip(const std::string& prefix);

    /// Stacks as many of the parts as possible, beginning with the first, into the first part, so that they become one
    /// product. The parts that were added to it become null. Only tensors that are copied in any case are joined.
    void join(std::span<Linear* const> parts);

    /// Records an error, unless there is one already.
    void note(std::string message, Error::Code code = Error::Code::corrupt);
    /// Records an error if a tensor of the file was not taken; the message says that `owner` does not have it.
    void refuse_unused(const std::string& owner);

    /// Loads all tensors, or returns the first recorded error. Can be called only once, at the end.
    Result<LoadedTensors> load();

  private:
    struct Entry {
        TensorUse use;
        ggml_backend_dev_t device;
        std::vector<const ggml_tensor*> sources;  // tensors of the file that are stacked in this one
    };

    ggml_tensor* add(const std::string& name, std::initializer_list<int64_t> shape, TensorUse use);
    bool supports(ggml_backend_dev_t device, ggml_backend_buffer_type_t type, const ggml_tensor* tensor,
                  TensorUse use) const;
    bool is_on_cpu(const ggml_tensor* tensor, const Entry& entry) const;
    /// The memory and layout that a tensor gets.
    ggml_backend_buffer_type_t type_for(const ggml_tensor* tensor, const Entry& entry) const;
    ggml_backend_buffer_type_t repacked_type(const ggml_tensor* tensor, const Entry& entry) const;
    ggml_tensor* joined(std::span<ggml_tensor* const> parts);
    bool join_all(std::span<Linear* const> parts);
    Result<void> map_in_place();
    Result<void> copy_rest();
    Result<void> copy_together(ggml_backend_buffer_type_t type, std::span<ggml_tensor* const> tensors, size_t n_bytes);
    void copy(ggml_tensor* tensor, const Entry& entry);

    const GgufFile& file_;
    const Compute& compute_;
    ggml_backend_dev_t device_;
    std::vector<ggml_backend_buffer_type_t> repacked_;
    std::map<ggml_tensor*, Entry> entries_;
    std::set<std::string> used_;
    std::optional<Error> error_;
    LoadedTensors loaded_;
};

}  // namespace cake
