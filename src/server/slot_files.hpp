#pragma once

#include <httplib.h>

#include <string>

#include "cake/batcher.hpp"
#include "server/body.hpp"

namespace cake::server {

/// Answers `POST /slots/ID?action=save|restore|erase`, as in llama.cpp. ID: that of an answer, or a number: 0 is the
/// client's sequence that was used last. `folder`: where files are; empty: nowhere. `salt_of`: turns what the body says
/// (read_cache_salt()) into the salt of the client's sequences.
ApiResult<Json> act_on_slot(Batcher& batcher, const std::string& folder, const httplib::Request& request,
                            const std::string& body, const std::function<std::string(const Json&)>& salt_of);

}  // namespace cake::server
