#include "model/gguf_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <functional>
#include <utility>

#include "model/gguf_check.hpp"

namespace cake {

Result<MappedFile> MappedFile::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail(std::format("{}: {}", path, std::strerror(errno)));
    struct stat status{};
    const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    const auto size = static_cast<size_t>(status.st_size);
    if (!regular || size == 0) {
        ::close(fd);
        return fail(std::format("{}: {}", path,
                                S_ISDIR(status.st_mode) ? "is a folder; name a GGUF file in it"
                                : !regular              ? "is not a regular file"
                                                        : "is empty"));
    }
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (address == MAP_FAILED) return fail(std::format("{}: cannot be mapped: {}", path, std::strerror(errno)));
    return MappedFile({static_cast<const std::byte*>(address), size});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::drop_pages(std::span<const std::byte> part) const {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto address = reinterpret_cast<uintptr_t>(part.data());
    const uintptr_t begin = address / page * page;
    ::madvise(reinterpret_cast<void*>(begin), address + part.size() - begin, MADV_DONTNEED);
}

Result<GgufFile> GgufFile::open(const std::string& path) {
    auto mapping = MappedFile::open(path);
    if (!mapping) return std::unexpected(mapping.error());
    if (auto checked = check_gguf(mapping->bytes()); !checked) return fail(path + ": " + checked.error().message);

    GgufFile file(path, std::move(*mapping));
    ggml_context* tensors = nullptr;
    const auto bytes = file.mapping_.bytes();
    file.metadata_.reset(gguf_init_from_buffer(bytes.data(), bytes.size(), {.no_alloc = true, .ctx = &tensors}));
    file.tensors_.reset(tensors);
    if (!file.metadata_ || !file.tensors_) return fail(path + ": ggml cannot read this GGUF file; it may be damaged");
    return file;
}

std::span<const std::byte> GgufFile::data(const ggml_tensor* tensor) const {
    const int64_t id = gguf_find_tensor(metadata_.get(), ggml_get_name(tensor));
    const size_t offset = gguf_get_data_offset(metadata_.get()) + gguf_get_tensor_offset(metadata_.get(), id);
    return mapping_.bytes().subspan(offset, ggml_nbytes(tensor));
}

namespace {

std::unexpected<Error> wrong_type(const GgufFile& file, const std::string& key, int64_t id, std::string_view wanted) {
    const gguf_type type = gguf_get_kv_type(file.metadata(), id);
    return fail(std::format("{}: the metadata value {} is of type {}; a {} is needed", file.path(), key,
                            gguf_type_name(type), wanted));
}

}  // namespace

Result<std::optional<uint32_t>> GgufFile::u32(const std::string& key) const {
    const auto* meta = metadata_.get();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(meta, id)) {
        case GGUF_TYPE_UINT8:
            return gguf_get_val_u8(meta, id);
        case GGUF_TYPE_UINT16:
            return gguf_get_val_u16(meta, id);
        case GGUF_TYPE_UINT32:
            return gguf_get_val_u32(meta, id);
        case GGUF_TYPE_INT32: {
            const int32_t value = gguf_get_val_i32(meta, id);
            if (value >= 0) return static_cast<uint32_t>(value);
            return fail(std::format("{}: the metadata value {} is {}; it cannot be negative", path_, key, value));
        }
        default:
            return wrong_type(*this, key, id, "whole number of 32 bits");
    }
}

Result<std::optional<float>> GgufFile::f32(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata_.get(), id) != GGUF_TYPE_FLOAT32) return wrong_type(*this, key, id, "f32");
    return gguf_get_val_f32(metadata_.get(), id);
}

Result<std::optional<bool>> GgufFile::boolean(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata_.get(), id) != GGUF_TYPE_BOOL) return wrong_type(*this, key, id, "bool");
    return gguf_get_val_bool(metadata_.get(), id);
}

Result<std::optional<std::string>> GgufFile::string(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
    if (id < 0) return std::nullopt;
    if (gguf_get_kv_type(metadata_.get(), id) != GGUF_TYPE_STRING) return wrong_type(*this, key, id, "string");
    return gguf_get_val_str(metadata_.get(), id);
}

Result<std::optional<double>> GgufFile::number(const std::string& key) const {
    const auto* meta = metadata_.get();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    switch (gguf_get_kv_type(meta, id)) {
        case GGUF_TYPE_BOOL:
            return gguf_get_val_bool(meta, id) ? 1 : 0;
        case GGUF_TYPE_FLOAT32:
            return gguf_get_val_f32(meta, id);
        case GGUF_TYPE_FLOAT64:
            return gguf_get_val_f64(meta, id);
        default: {
            const auto value = u32(key);
            if (!value) return std::unexpected(value.error());
            return *value;
        }
    }
}

bool GgufFile::is_array(const std::string& key) const {
    const int64_t id = gguf_find_key(metadata_.get(), key.c_str());
    return id >= 0 && gguf_get_kv_type(metadata_.get(), id) == GGUF_TYPE_ARRAY;
}

Result<std::optional<std::vector<bool>>> GgufFile::booleans(const std::string& key) const {
    const auto* meta = metadata_.get();
    const int64_t id = gguf_find_key(meta, key.c_str());
    if (id < 0) return std::nullopt;
    if (!is_array(key)) return wrong_type(*this, key, id, "array of bools");
    const size_t n = gguf_get_arr_n(meta, id);
    std::vector<bool> flags(n);
    const auto read = [&](const auto* values) { std::transform(values, values + n, flags.begin(), std::identity{}); };
    switch (gguf_get_arr_type(meta, id)) {
        case GGUF_TYPE_BOOL:
        case GGUF_TYPE_UINT8:
            read(static_cast<const uint8_t*>(gguf_get_arr_data(meta, id)));
            return flags;
        case GGUF_TYPE_INT32:
        case GGUF_TYPE_UINT32:
            read(static_cast<const uint32_t*>(gguf_get_arr_data(meta, id)));
            return flags;
        default:
            return wrong_type(*this, key, id, "array of bools");
    }
}

}  // namespace cake
