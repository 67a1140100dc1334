#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "server/api_error.hpp"

namespace cake::server {

using Json = nlohmann::ordered_json;

/// The JSON object of a request's body. Each field is asked for once, within bounds; the first that is wrong is the
/// error, and so is one that nobody asked for. Null is as good as missing.
class Body {
  public:
    /// Refuses what is no JSON object in UTF-8, or nests deeper than anything that is asked for.
    static ApiResult<Body> parse(std::string_view text);

    std::optional<bool> flag(const std::string& name);
    std::optional<int64_t> integer(const std::string& name, int64_t least, int64_t most);
    std::optional<double> number(const std::string& name, double least, double most);
    std::optional<std::string> text(const std::string& name, size_t most_bytes);
    /// Null where it is missing.
    const Json* find(const std::string& name);
    /// Fields that change nothing here.
    void ignore(std::initializer_list<const char*> names);
    /// Fields that would change the answer and are not supported: only these values, which change nothing, may stand.
    void unsupported(const std::string& name, std::initializer_list<Json> harmless);

    void wrong(const std::string& name, std::string message);
    bool good() const { return !error_; }
    /// The first thing that was wrong.
    ApiResult<void> finish();

  private:
    explicit Body(Json object) : object_(std::move(object)) {}

    Json object_;
    std::set<std::string> asked_;
    std::optional<ApiError> error_;
};

}  // namespace cake::server
