#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/api_error.hpp"

namespace cake::server {

using Json = nlohmann::ordered_json;

/// The JSON object in the body of a request. Read every supported field once, with its bounds, and then call finish():
/// the first invalid field is an error. A field that was not read is unknown. A field that is null counts as missing.
class Body {
  public:
    /// Fails if `text` is not a JSON object in UTF-8, is nested too deeply, or has too many fields.
    static ApiResult<Body> parse(std::string_view text);
    /// `object` must be a JSON object.
    explicit Body(Json object) : object_(std::move(object)) {}

    const Json& json() const { return object_; }

    std::optional<bool> flag(const std::string& name);
    std::optional<int64_t> integer(const std::string& name, int64_t least, int64_t most);
    std::optional<double> number(const std::string& name, double least, double most);
    std::optional<std::string> text(const std::string& name, size_t max_bytes);
    /// Returns null if the field is missing or null.
    const Json* find(const std::string& name);
    /// Accepts fields that the server ignores.
    void ignore(std::initializer_list<const char*> names);
    /// Refuses a field that is not supported, unless it has one of the `harmless` values, which have no effect.
    void unsupported(const std::string& name, std::initializer_list<Json> harmless);

    void wrong(const std::string& name, std::string message);
    bool good() const { return !error_; }
    /// The first error, if any.
    ApiResult<void> finish() const;
    /// Names of the fields that have not been asked for.
    std::vector<std::string> unknown() const;

  private:
    Json object_;
    std::set<std::string> asked_;
    std::optional<ApiError> error_;
};

}  // namespace cake::server
