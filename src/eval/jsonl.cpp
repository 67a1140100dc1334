#include "eval/jsonl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace cake::eval {

namespace {

namespace fs = std::filesystem;

/// Replaces each folder with its .jsonl files, sorted by name.
Result<std::vector<std::string>> files_of(const std::vector<std::string>& paths) {
    std::vector<std::string> files;
    for (const auto& path : paths) {
        std::error_code error;
        if (!fs::is_directory(path, error)) {
            files.push_back(path);
            continue;
        }
        const size_t before = files.size();
        for (const auto& entry : fs::directory_iterator(path, error)) {
            if (entry.path().extension() == ".jsonl") files.push_back(entry.path().string());
        }
        if (error) return fail(fmt::format("{}: {}", path, error.message()));
        if (files.size() == before) return fail(fmt::format("{}: contains no .jsonl files", path));
        std::sort(files.begin() + static_cast<ptrdiff_t>(before), files.end());
    }
    return files;
}

}  // namespace

Result<std::vector<Sample>> read_samples(
    const TaskInput& input, const std::function<Result<Sample>(const nlohmann::json&, const std::string& file)>& make) {
    const auto files = files_of(input.data);
    if (!files) return std::unexpected(files.error());
    std::vector<Sample> samples;
    for (const auto& file : *files) {
        std::ifstream stream(file);
        if (!stream) return fail(fmt::format("{}: {}", file, std::strerror(errno)));
        int32_t n_read = -input.n_skip;
        std::string line;
        for (int64_t number = 1; n_read < input.n_samples && std::getline(stream, line); number++) {
            if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
            const auto object = nlohmann::json::parse(line, nullptr, false);
            auto sample = object.is_object() ? make(object, file) : fail("this is not a JSON object");
            if (sample) {
                if (n_read >= 0) samples.push_back(std::move(*sample));
                n_read++;
                continue;
            }
            const auto message = fmt::format("{}:{}: {}", file, number, sample.error().message);
            if (!input.keep_going) return fail(message + "; --keep-going skips such lines");
            input.warn(message + "; skipped");
        }
        if (stream.bad()) return fail(fmt::format("{}: {}", file, std::strerror(errno)));
    }
    if (samples.empty())
        return fail(input.n_skip > 0 ? "the files contain no samples after those that --skip skips"
                                     : "the files contain no samples");
    return samples;
}

Result<std::string> string_field(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end()) return fail(fmt::format("the field \"{}\" is missing", name));
    if (found->is_string()) return found->get<std::string>();
    if (found->is_number_integer()) return found->dump();
    return fail(fmt::format("the field \"{}\" is not a string", name));
}

Result<std::vector<std::string>> strings_field(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    if (found == object.end()) return fail(fmt::format("the field \"{}\" is missing", name));
    if (!found->is_array() || !std::ranges::all_of(*found, [](const auto& x) { return x.is_string(); }))
        return fail(fmt::format("the field \"{}\" is not a list of strings", name));
    return found->get<std::vector<std::string>>();
}

}  // namespace cake::eval
