#include "server/slot_files.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "server/access.hpp"
#include "server/generation_fields.hpp"

namespace cake::server {

namespace {

/// A number of up to three digits names a slot as llama.cpp does.
SlotName name_of(const std::string& id, const std::string& salt) {
    constexpr size_t kMaxDigits = 3;
    const bool is_number =
        !id.empty() && id.size() <= kMaxDigits && std::ranges::all_of(id, [](char c) { return c >= '0' && c <= '9'; });
    if (!is_number) return {.id = id, .cache_salt = salt};
    return {.index = static_cast<size_t>(std::stoi(id)), .cache_salt = salt};
}

bool is_file_name(const std::string& name) {
    constexpr size_t kMax = 128;
    const auto is_plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
               c == '-';
    };
    return !name.empty() && name.size() <= kMax && name.front() != '.' && std::ranges::all_of(name, is_plain);
}

/// Files of different clients with the same name are different files.
std::string name_on_disk(const std::string& file, const std::string& salt) {
    return fmt::format("{}.{:016x}", file, XXH3_64bits(salt.data(), salt.size()));
}

}  // namespace

ApiResult<Json> act_on_slot(Batcher& batcher, const std::string& folder, const httplib::Request& request,
                            const std::string& text, const std::function<std::string(const Json&)>& salt_of) {
    const auto action = request.get_param_value("action");
    if (action != "save" && action != "restore" && action != "erase")
        return invalid("the action must be save, restore or erase, as in /slots/0?action=save", "action");
    const auto& id = request.path_params.at("id");
    auto body = Body::parse(text.empty() ? "{}" : text);
    if (!body) return std::unexpected(body.error());
    constexpr size_t kMaxName = 1024;
    const auto file = body->text("filename", kMaxName).value_or("");
    const auto salt = salt_of(read_cache_salt(*body));
    if (action != "erase" && body->good()) {
        if (folder.empty())
            return std::unexpected(
                ApiError{.status = kNotSupported,
                         .message = "this server has no folder for slots: start it with --slot-save-path FOLDER"});
        if (!is_file_name(file))
            body->wrong("filename",
                        "filename must be a name of letters, digits, '.', '_' and '-', without a folder, that does not "
                        "begin with '.'");
    }
    if (auto read = body->finish(); !read) return std::unexpected(read.error());
    const auto path = (std::filesystem::path(folder) / name_on_disk(file, salt)).string();
    const auto since = std::chrono::steady_clock::now();
    const auto milliseconds = [&] {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - since).count();
    };
    const auto name = name_of(id, salt);
    const Json slot = name.id.empty() ? Json(name.index) : Json(id);
    const auto failed = [&](const Error& error) {
        const auto message = error.message.starts_with(path) ? file + error.message.substr(path.size()) : error.message;
        return invalid(message, action == "restore" ? "filename" : "id");
    };
    if (action == "erase") {
        const auto erased = batcher.erase_slot(name);
        if (!erased) return failed(erased.error());
        return Json{{"id_slot", slot}, {"n_erased", *erased}};
    }
    if (action == "save") {
        const auto saved = batcher.save_slot(name, path);
        if (!saved) return failed(saved.error());
        return Json{{"id_slot", slot},
                    {"filename", file},
                    {"n_saved", saved->n_tokens},
                    {"n_written", saved->n_bytes},
                    {"timings", {{"save_ms", milliseconds()}}}};
    }
    const auto new_id = random_id("slot-");
    const auto restored = batcher.load_slot(path, new_id, salt);
    if (!restored) return failed(restored.error());
    return Json{{"id_slot", slot},
                {"id", new_id},
                {"filename", file},
                {"n_restored", restored->n_tokens},
                {"n_read", restored->n_bytes},
                {"timings", {{"restore_ms", milliseconds()}}}};
}

}  // namespace cake::server
