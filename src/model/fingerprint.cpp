#include "model/fingerprint.hpp"

#include <xxhash.h>

#include <algorithm>

namespace cake {

uint64_t fingerprint(const GgufFile& file) {
    constexpr size_t kBytesPerTensor = 4096;
    uint64_t hash = 0;
    for (const auto& part : file.parts()) {
        const auto header = part.header();
        hash = XXH3_64bits_withSeed(header.data(), header.size(), hash);
    }
    for (const auto* tensor : file.tensors()) {
        const auto data = file.data(tensor);
        hash = XXH3_64bits_withSeed(data.data(), std::min(data.size(), kBytesPerTensor), hash);
    }
    return hash;
}

}  // namespace cake
