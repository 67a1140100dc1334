#include "model/output_weights.hpp"

#include <cstring>
#include <format>

namespace cake {

Result<std::vector<float>> read_output_weights(const GgufFile& file, int32_t layer) {
    const auto name = std::format("blk.{}.attn_output.weight", layer);
    const ggml_tensor* tensor = file.tensor(name);
    if (tensor == nullptr) return fail(Error::Code::unsupported, std::format("the model has no tensor {}", name));
    std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
    const auto data = file.data(tensor);
    if (tensor->type == GGML_TYPE_F32)
        std::memcpy(values.data(), data.data(), data.size());
    else
        ggml_get_type_traits(tensor->type)->to_float(data.data(), values.data(), std::ssize(values));
    return values;
}

}  // namespace cake
