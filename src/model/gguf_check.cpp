#include "model/gguf_check.hpp"

#include <fmt/format.h>
#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace cake {

namespace {

constexpr uint64_t kMaxEntries = 1U << 20U;  // max metadata keys, and max tensors
constexpr uint64_t kMaxName = 1U << 16U;

/// Reads the file sequentially, never beyond its end.
class Reader {
  public:
    explicit Reader(std::span<const std::byte> file) : file_(file) {}

    template <typename T>
    std::optional<T> read() {
        if (left() < sizeof(T)) return std::nullopt;
        T value;
        std::memcpy(&value, file_.data() + offset_, sizeof(T));
        offset_ += sizeof(T);
        return value;
    }

    std::optional<std::string_view> string() {
        const auto length = read<uint64_t>();
        if (!length || *length > left()) return std::nullopt;
        const std::string_view view(reinterpret_cast<const char*>(file_.data() + offset_), *length);
        offset_ += *length;
        return view;
    }

    bool skip(uint64_t n_bytes) {
        if (n_bytes > left()) return false;
        offset_ += n_bytes;
        return true;
    }

    uint64_t offset() const { return offset_; }
    uint64_t left() const { return file_.size() - offset_; }

  private:
    std::span<const std::byte> file_;
    uint64_t offset_ = 0;
};

/// Size of a scalar value; 0 for strings, arrays and unknown types.
uint64_t scalar_bytes(uint32_t type) {
    switch (type) {
        case GGUF_TYPE_UINT8:
        case GGUF_TYPE_INT8:
        case GGUF_TYPE_BOOL:
            return 1;
        case GGUF_TYPE_UINT16:
        case GGUF_TYPE_INT16:
            return 2;
        case GGUF_TYPE_UINT32:
        case GGUF_TYPE_INT32:
        case GGUF_TYPE_FLOAT32:
            return 4;
        case GGUF_TYPE_UINT64:
        case GGUF_TYPE_INT64:
        case GGUF_TYPE_FLOAT64:
            return 8;
        default:
            return 0;
    }
}

std::string printable(std::string_view name) {
    std::string out;
    for (const char c : name.substr(0, 80)) out += c >= ' ' && c <= '~' ? c : '?';
    return out;
}

struct TensorExtent {
    uint64_t offset;
    uint64_t n_bytes;
    std::string_view name;
};

class Checker {
  public:
    explicit Checker(std::span<const std::byte> file) : reader_(file) {}

    Result<void> check() {
        if (auto header = check_header(); !header) return header;
        for (uint64_t i = 0; i < n_kv_; i++) {
            if (auto value = check_key_value(); !value) return value;
        }
        for (uint64_t i = 0; i < n_tensors_; i++) {
            if (auto tensor = check_tensor(); !tensor) return tensor;
        }
        return check_extents();
    }

  private:
    std::unexpected<Error> truncated(std::string_view in) const {
        return fail(Error::Code::corrupt,
                    fmt::format("the file ends in {} (byte {}): it is truncated or damaged; download it again", in,
                                reader_.offset()));
    }

    Result<void> check_header() {
        const auto magic = reader_.read<std::array<char, 4>>();
        if (!magic || std::string_view(magic->data(), 4) != "GGUF") {
            return fail(Error::Code::corrupt, "not a GGUF file: it does not begin with \"GGUF\"");
        }
        const auto version = reader_.read<uint32_t>();
        if (!version) return truncated("the header");
        if (*version != 2 && *version != 3) {
            return fail(
                Error::Code::unsupported,
                fmt::format("GGUF version {} is not supported: versions 2 and 3 (little-endian) are", *version));
        }
        const auto n_tensors = reader_.read<uint64_t>();
        const auto n_kv = reader_.read<uint64_t>();
        if (!n_tensors || !n_kv) return truncated("the header");
        if (*n_tensors > kMaxEntries || *n_kv > kMaxEntries) {
            return fail(
                Error::Code::corrupt,
                fmt::format(
                    "the header claims {} tensors and {} metadata keys; the file is damaged (at most {} of each)",
                    *n_tensors, *n_kv, kMaxEntries));
        }
        n_tensors_ = *n_tensors;
        n_kv_ = *n_kv;
        return {};
    }

    Result<void> check_key_value() {
        const auto key = reader_.string();
        if (!key) return truncated("a metadata key");
        if (key->empty() || key->size() > kMaxName)
            return fail(Error::Code::corrupt, "a metadata key is empty or longer than 64 KiB");
        if (!keys_.insert(*key).second)
            return fail(Error::Code::corrupt, fmt::format("the metadata key {} occurs twice", printable(*key)));
        const auto type = reader_.read<uint32_t>();
        if (!type) return truncated(fmt::format("the metadata value {}", printable(*key)));
        if (*key == "general.alignment") return check_alignment(*type);
        if (*type == GGUF_TYPE_ARRAY) return check_array(*key);
        return check_values(*key, *type, 1);
    }

    Result<void> check_alignment(uint32_t type) {
        const auto alignment = type == GGUF_TYPE_UINT32 ? reader_.read<uint32_t>() : std::nullopt;
        if (!alignment || !std::has_single_bit(*alignment) || *alignment > (1U << 20U)) {
            return fail(Error::Code::corrupt,
                        "the metadata value general.alignment must be a power of two, as an unsigned 32-bit number");
        }
        alignment_ = *alignment;
        return {};
    }

    Result<void> check_array(std::string_view key) {
        const auto type = reader_.read<uint32_t>();
        const auto n = reader_.read<uint64_t>();
        if (!type || !n) return truncated(fmt::format("the metadata array {}", printable(key)));
        if (*type == GGUF_TYPE_ARRAY)
            return fail(Error::Code::corrupt, fmt::format("the metadata array {} contains arrays", printable(key)));
        return check_values(key, *type, *n);
    }

    Result<void> check_values(std::string_view key, uint32_t type, uint64_t n) {
        if (type == GGUF_TYPE_STRING) {
            for (uint64_t i = 0; i < n; i++) {
                if (!reader_.string()) return truncated(fmt::format("the metadata value {}", printable(key)));
            }
            return {};
        }
        const uint64_t bytes = scalar_bytes(type);
        if (bytes == 0)
            return fail(Error::Code::corrupt,
                        fmt::format("the metadata value {} has the unknown type {}", printable(key), type));
        if (n > reader_.left() / bytes) return truncated(fmt::format("the metadata value {}", printable(key)));
        reader_.skip(n * bytes);
        return {};
    }

    Result<void> check_tensor() {
        const auto name = reader_.string();
        if (!name) return truncated("a tensor's name");
        const std::string shown = printable(*name);
        if (name->empty() || name->size() >= GGML_MAX_NAME) {
            return fail(
                Error::Code::corrupt,
                fmt::format("the tensor name \"{}\" is empty or longer than {} characters", shown, GGML_MAX_NAME - 1));
        }
        if (!names_.insert(*name).second)
            return fail(Error::Code::corrupt, fmt::format("the tensor {} occurs twice", shown));
        const auto n_dims = reader_.read<uint32_t>();
        if (!n_dims) return truncated(fmt::format("the tensor {}", shown));
        if (*n_dims < 1 || *n_dims > GGML_MAX_DIMS) {
            return fail(Error::Code::corrupt, fmt::format("the tensor {} has {} dimensions; 1 to {} are possible",
                                                          shown, *n_dims, GGML_MAX_DIMS));
        }
        uint64_t n_elements = 1;
        uint64_t row = 1;
        for (uint32_t d = 0; d < *n_dims; d++) {
            const auto size = reader_.read<uint64_t>();
            if (!size) return truncated(fmt::format("the tensor {}", shown));
            if (*size < 1 || *size > kMaxElements || n_elements > kMaxElements / *size) {
                return fail(Error::Code::corrupt,
                            fmt::format("the tensor {} has a dimension of {} or too many elements", shown,
                                        static_cast<int64_t>(*size)));
            }
            n_elements *= *size;
            if (d == 0) row = *size;
        }
        return check_tensor_data(*name, row, n_elements);
    }

    Result<void> check_tensor_data(std::string_view name, uint64_t row, uint64_t n_elements) {
        const std::string shown = printable(name);
        const auto type = reader_.read<uint32_t>();
        const auto offset = reader_.read<uint64_t>();
        if (!type || !offset) return truncated(fmt::format("the tensor {}", shown));
        const auto ggml = static_cast<ggml_type>(*type);
        if (*type >= GGML_TYPE_COUNT || ggml_blck_size(ggml) <= 0 || ggml_type_size(ggml) == 0) {
            return fail(Error::Code::corrupt, fmt::format("the tensor {} has the unknown type {}", shown, *type));
        }
        const auto block = static_cast<uint64_t>(ggml_blck_size(ggml));
        if (row % block != 0) {
            return fail(Error::Code::corrupt,
                        fmt::format("the tensor {} has rows of {} elements, which {} does not divide into blocks of {}",
                                    shown, row, ggml_type_name(ggml), block));
        }
        extents_.push_back({.offset = *offset, .n_bytes = n_elements / block * ggml_type_size(ggml), .name = name});
        return {};
    }

    Result<void> check_extents() {
        if (extents_.empty()) return {};
        const uint64_t padding = (alignment_ - reader_.offset() % alignment_) % alignment_;
        if (padding > reader_.left()) return truncated("the tensor list");
        const uint64_t n_data = reader_.left() - padding;
        for (const auto& extent : extents_) {
            if (extent.offset % alignment_ != 0) {
                return fail(Error::Code::corrupt,
                            fmt::format("the tensor {} is at offset {}, which is not a multiple of {}",
                                        printable(extent.name), extent.offset, alignment_));
            }
            if (extent.offset > n_data || extent.n_bytes > n_data - extent.offset) {
                return fail(
                    Error::Code::corrupt,
                    fmt::format("the tensor {} ends at byte {} of {} bytes of data: the file is truncated or damaged; "
                                "download it again",
                                printable(extent.name),
                                extent.offset > std::numeric_limits<uint64_t>::max() - extent.n_bytes
                                    ? extent.offset
                                    : extent.offset + extent.n_bytes,
                                n_data));
            }
        }
        std::ranges::sort(extents_, {}, &TensorExtent::offset);
        for (size_t i = 1; i < extents_.size(); i++) {
            if (extents_[i - 1].offset + extents_[i - 1].n_bytes > extents_[i].offset) {
                return fail(Error::Code::corrupt,
                            fmt::format("the tensors {} and {} overlap", printable(extents_[i - 1].name),
                                        printable(extents_[i].name)));
            }
        }
        return {};
    }

    static constexpr uint64_t kMaxElements = uint64_t{1} << 48U;

    Reader reader_;
    uint64_t n_tensors_ = 0;
    uint64_t n_kv_ = 0;
    uint32_t alignment_ = GGUF_DEFAULT_ALIGNMENT;
    std::set<std::string_view> keys_;
    std::set<std::string_view> names_;
    std::vector<TensorExtent> extents_;
};

}  // namespace

Result<void> check_gguf(std::span<const std::byte> file) {
    return Checker(file).check();
}

}  // namespace cake
