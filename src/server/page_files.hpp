#pragma once

#include <span>
#include <string_view>

namespace cake::server {

/// A file of the chat page, embedded at build time.
struct PageFile {
    std::string_view path;
    std::string_view content;
    const char* type;
};

std::span<const PageFile> page_files();

}  // namespace cake::server
