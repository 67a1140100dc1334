#include "model/fingerprint.hpp"

#include <xxhash.h>

#include <algorithm>

namespace cake {

uint64_t fingerprint(const GgufFile& file) {
    constexpr size_t kBytesPerTensor = 4096;
    const auto bytes = file.mapping().bytes();
    const auto n_header = std::min(bytes.size(), gguf_get_data_offset(file.metadata()));
    uint64_t hash = XXH3_64bits(bytes.data(), n_header);
    for (auto* t = ggml_get_first_tensor(file.tensors()); t != nullptr; t = ggml_get_next_tensor(file.tensors(), t)) {
        const auto data = file.data(t);
        hash = XXH3_64bits_withSeed(data.data(), std::min(data.size(), kBytesPerTensor), hash);
    }
    return hash;
}

}  // namespace cake
