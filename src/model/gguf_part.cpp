#include "model/gguf_part.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "model/gguf_check.hpp"

namespace cake {

Result<MappedFile> MappedFile::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail(Error::Code::not_found, fmt::format("{}: {}", path, std::strerror(errno)));
    struct stat status{};
    const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    const auto size = static_cast<size_t>(status.st_size);
    if (!regular || size == 0) {
        ::close(fd);
        return fail(size == 0 && regular ? Error::Code::corrupt : Error::Code::invalid_argument,
                    fmt::format("{}: {}", path,
                                S_ISDIR(status.st_mode) ? "is a folder; pass a GGUF file in it"
                                : !regular              ? "is not a regular file"
                                                        : "is empty"));
    }
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (address == MAP_FAILED)
        return fail(Error::Code::internal, fmt::format("{}: cannot be mapped: {}", path, std::strerror(errno)));
    return MappedFile({static_cast<const std::byte*>(address), size});
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile::~MappedFile() {
    if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::drop_pages(std::span<const std::byte> part) {
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto address = reinterpret_cast<uintptr_t>(part.data());
    const uintptr_t begin = address / page * page;
    ::madvise(reinterpret_cast<void*>(begin), address + part.size() - begin, MADV_DONTNEED);
}

Result<GgufPart> GgufPart::open(const std::string& path) {
    auto mapping = MappedFile::open(path);
    if (!mapping) return std::unexpected(mapping.error());
    if (auto checked = check_gguf(mapping->bytes()); !checked)
        return fail(checked.error().code, path + ": " + checked.error().message);

    GgufPart part{.path = path, .mapping = std::move(*mapping), .metadata = {}, .tensors = {}};
    ggml_context* tensors = nullptr;
    const auto bytes = part.mapping.bytes();
    part.metadata.reset(gguf_init_from_buffer(bytes.data(), bytes.size(), {.no_alloc = true, .ctx = &tensors}));
    part.tensors.reset(tensors);
    if (!part.metadata || !part.tensors)
        return fail(Error::Code::corrupt, path + ": ggml cannot read this GGUF file; it may be damaged");
    return part;
}

Result<std::optional<uint32_t>> GgufPart::u32(const std::string& key) const {
    const auto* meta = metadata.get();
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
            return fail(Error::Code::corrupt,
                        fmt::format("{}: the metadata value {} is {}; it cannot be negative", path, key, value));
        }
        default:
            return wrong_type(key, "32-bit integer");
    }
}

std::unexpected<Error> GgufPart::wrong_type(const std::string& key, std::string_view wanted) const {
    const gguf_type type = gguf_get_kv_type(metadata.get(), gguf_find_key(metadata.get(), key.c_str()));
    return fail(Error::Code::corrupt, fmt::format("{}: the metadata value {} is of type {} and must be of type {}",
                                                  path, key, gguf_type_name(type), wanted));
}

std::span<const std::byte> GgufPart::header() const {
    const auto bytes = mapping.bytes();
    return bytes.first(std::min(bytes.size(), gguf_get_data_offset(metadata.get())));
}

std::span<const std::byte> GgufPart::data(const ggml_tensor* tensor) const {
    const int64_t id = gguf_find_tensor(metadata.get(), ggml_get_name(tensor));
    const size_t offset = gguf_get_data_offset(metadata.get()) + gguf_get_tensor_offset(metadata.get(), id);
    return mapping.bytes().subspan(offset, ggml_nbytes(tensor));
}

}  // namespace cake
