#include "model/gguf_parts.hpp"

#include <fmt/format.h>

#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace cake {

namespace {

constexpr uint32_t kMaxParts = 99'999;  // part numbers have five digits

/// Metadata of a part about the split of its model.
struct Split {
    uint32_t no = 0;  // number of the part, from 0
    uint32_t count = 1;
    std::optional<uint32_t> n_tensors{};  // number of tensors in all parts together
};

/// The required end of a part's file name.
std::string ending(uint32_t no, uint32_t count) {
    return fmt::format("-{:05}-of-{:05}.gguf", no + 1, count);
}

/// The path of part `no`, derived from the path of another part. Empty if the name of that one does not have the
/// required end.
std::optional<std::string> path_of(uint32_t no, std::string_view path, const Split& split) {
    const auto own = ending(split.no, split.count);
    if (!path.ends_with(own)) return std::nullopt;
    return std::string(path.substr(0, path.size() - own.size())) + ending(no, split.count);
}

Result<Split> read_split(const GgufPart& part) {
    const auto stated_count = part.u32("split.count");
    if (!stated_count) return std::unexpected(stated_count.error());
    const uint32_t count = stated_count->value_or(1);
    if (count <= 1) return Split{};
    const auto stated_no = part.u32("split.no");
    if (!stated_no) return std::unexpected(stated_no.error());
    const uint32_t no = stated_no->value_or(count);  // a missing number is out of range
    const auto n_tensors = part.u32("split.tensors.count");
    if (!n_tensors) return std::unexpected(n_tensors.error());
    if (count > kMaxParts || no >= count) {
        return fail(Error::Code::corrupt,
                    fmt::format("{}: the metadata values split.no and split.count do not say which part of a model "
                                "this is: the file is damaged",
                                part.path));
    }
    return Split{.no = no, .count = count, .n_tensors = *n_tensors};
}

Result<GgufPart> open_part(uint32_t no, const GgufPart& first, const Split& split) {
    const auto path = path_of(no, first.path, split);
    if (!path) {
        return fail(Error::Code::corrupt,
                    fmt::format("{}: is the first of {} parts, and the others are found by its name, which must end "
                                "in {}: restore its original name",
                                first.path, split.count, ending(0, split.count)));
    }
    auto part = GgufPart::open(*path);
    if (!part) {
        return fail(part.error().code, fmt::format("part {} of {} of {} cannot be used: {}", no + 1, split.count,
                                                   first.path, part.error().message));
    }
    const auto own = read_split(*part);
    if (!own) return std::unexpected(own.error());
    if (own->no != no || own->count != split.count) {
        return fail(
            Error::Code::corrupt,
            fmt::format(
                "{}: its metadata says that it is part {} of {}, and its name says part {} of {}: download it again",
                *path, own->no + 1, own->count, no + 1, split.count));
    }
    return part;
}

/// Checks that every tensor is in only one part, and that their number is the one that the first part states.
Result<void> check_tensors(const std::vector<GgufPart>& parts, const Split& split) {
    std::unordered_map<std::string_view, const GgufPart*> seen;
    for (const auto& part : parts) {
        auto* context = part.tensors.get();
        for (auto* t = ggml_get_first_tensor(context); t != nullptr; t = ggml_get_next_tensor(context, t)) {
            const auto [other, added] = seen.emplace(ggml_get_name(t), &part);
            if (!added) {
                return fail(
                    Error::Code::corrupt,
                    fmt::format(
                        "{}: the tensor {} is also in {}: one of the two is damaged or belongs to another model",
                        part.path, ggml_get_name(t), other->second->path));
            }
        }
    }
    if (split.n_tensors && *split.n_tensors != seen.size()) {
        return fail(
            Error::Code::corrupt,
            fmt::format("{}: the {} parts of the model have {} tensors, but the first one specifies {}: a part is "
                        "damaged or belongs to another model",
                        parts.front().path, split.count, seen.size(), *split.n_tensors));
    }
    return {};
}

}  // namespace

Result<std::vector<GgufPart>> open_gguf_parts(const std::string& path) {
    auto first = GgufPart::open(path);
    if (!first) return std::unexpected(first.error());
    const auto split = read_split(*first);
    if (!split) return std::unexpected(split.error());
    if (split->no > 0) {
        return fail(fmt::format("{}: is part {} of {} of a model: pass the first, {}", path, split->no + 1,
                                split->count,
                                path_of(0, path, *split).value_or("whose name ends in " + ending(0, split->count))));
    }
    std::vector<GgufPart> parts;
    parts.push_back(std::move(*first));
    for (uint32_t no = 1; no < split->count; no++) {
        auto part = open_part(no, parts.front(), *split);
        if (!part) return std::unexpected(part.error());
        parts.push_back(std::move(*part));
    }
    if (parts.size() > 1)
        if (auto checked = check_tensors(parts, *split); !checked) return std::unexpected(checked.error());
    return parts;
}

}  // namespace cake
