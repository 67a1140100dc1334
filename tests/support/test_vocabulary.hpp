#pragma once

#include <gguf.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "text/vocabulary.hpp"

namespace cake::test {

/// The vocabulary of a GGUF file, without its weights.
inline Vocabulary vocabulary_of(const std::string& path) {
    silence_libraries();
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> metadata(
        gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
    if (!metadata) throw std::runtime_error(path + " is not a GGUF file");
    auto vocabulary = Vocabulary::load(path, metadata.get());
    if (!vocabulary) throw std::runtime_error(vocabulary.error().message);
    return std::move(*vocabulary);
}

}  // namespace cake::test
