#include "server/access.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>
#include <string_view>

namespace cake::server {

namespace {

/// Compares in a time that does not depend on how many characters of the key are right.
bool same_key(std::string_view given, std::string_view key) {
    size_t different = given.size() ^ key.size();
    for (size_t i = 0; i < given.size(); i++)
        different |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]);
    return different == 0;
}

bool is_loopback(const std::string& host) {
    return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

/// The numeric address in one form, so that it can be compared; empty if it is none. An IPv4 address that is written as
/// one of IPv6 is one of IPv4.
std::string in_one_form(const std::string& address) {
    in_addr v4{};
    if (inet_pton(AF_INET, address.c_str(), &v4) == 1) return address;
    in6_addr v6{};
    if (inet_pton(AF_INET6, address.c_str(), &v6) != 1) return {};
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
        constexpr size_t kPrefixBytes = 12;
        std::memcpy(&v4, v6.s6_addr + kPrefixBytes, sizeof(v4));
        return inet_ntop(AF_INET, &v4, text.data(), text.size());
    }
    return inet_ntop(AF_INET6, &v6, text.data(), text.size());
}

/// The host of "host:port", without the brackets of an IPv6 address.
std::string host_of(std::string_view authority) {
    if (authority.starts_with('[')) return std::string(authority.substr(1, authority.find(']') - 1));
    return std::string(authority.substr(0, authority.find(':')));
}

}  // namespace

bool is_address(const std::string& host) {
    return !in_one_form(host).empty();
}

std::string too_large() {
    return fmt::format("the body is larger than {} MiB", kMaxBodyBytes >> 20U);
}

std::string key_of(const httplib::Request& request) {
    constexpr std::string_view kScheme = "bearer ";
    const auto authorization = request.get_header_value("Authorization");
    if (lower(authorization.substr(0, kScheme.size())) == kScheme) return authorization.substr(kScheme.size());
    return request.get_header_value("X-Api-Key");
}

std::string address_of(const httplib::Request& request, const std::vector<std::string>& proxies) {
    const auto is_proxy = [&](const std::string& address) {
        return std::ranges::any_of(proxies, [&](const auto& proxy) { return in_one_form(proxy) == address; });
    };
    std::string address = in_one_form(request.remote_addr);
    if (!is_proxy(address)) return request.remote_addr;
    std::string forwarded = request.get_header_value("X-Forwarded-For");
    while (is_proxy(address) && !forwarded.empty()) {
        const size_t comma = forwarded.rfind(',');
        const size_t begin = comma == std::string::npos ? 0 : comma + 1;
        std::string last = forwarded.substr(begin);
        std::erase_if(last, [](char c) { return c == ' ' || c == '\t'; });
        const bool has_port = last.starts_with('[') || std::ranges::count(last, ':') == 1;
        last = in_one_form(has_port ? host_of(last) : last);
        if (last.empty()) break;
        address = std::move(last);
        forwarded.resize(comma == std::string::npos ? 0 : comma);
    }
    return address;
}

std::string random_id(std::string_view prefix) {
    std::random_device random;
    return fmt::format("{}{:08x}{:08x}{:08x}{:08x}", prefix, random(), random(), random(), random());
}

std::string forwarded_address_of(const httplib::Request& request, const std::vector<std::string>& proxies) {
    const auto address = address_of(request, proxies);
    return address == request.remote_addr ? std::string() : address;
}

ApiResult<void> check_access(const httplib::Request& request, const AccessRules& rules) {
    const auto host = request.get_header_value("Host");
    // Refuse requests from foreign web pages in the user's browser: their origin differs (CSRF), or their host name
    // resolves to this address (DNS rebinding).
    const auto origin = request.get_header_value("Origin");
    const bool allowed = !rules.cors.empty() && (rules.cors == "*" || rules.cors == origin);
    const bool foreign = !origin.empty() && !allowed && origin != "http://" + host && origin != "https://" + host;
    const auto name = lower(host_of(host));
    const bool renamed =
        is_loopback(rules.host) && rules.api_keys.empty() && !name.empty() && name != "localhost" && !is_address(name);
    if (foreign || renamed) {
        return std::unexpected(
            ApiError{.status = kForbidden,
                     .message = "requests from other sites are not answered: open the server by its own address"});
    }
    const auto encoding = request.get_header_value("Content-Encoding");
    if (!encoding.empty() || request.is_multipart_form_data()) {
        return std::unexpected(ApiError{.status = kUnsupported,
                                        .message = "forms and compressed bodies are not accepted: send plain JSON"});
    }
    const auto announced = request.get_header_value("Content-Length");
    if (announced.size() > std::numeric_limits<uint64_t>::digits10 ||
        request.get_header_value_u64("Content-Length") > kMaxBodyBytes)
        return std::unexpected(ApiError{.status = kTooLarge, .message = too_large()});
    if (allowed && request.method == "OPTIONS") return {};  // browsers send no key with this question
    const bool open = request.path == "/" || request.path.starts_with("/page/") || request.path == "/health";
    if (rules.api_keys.empty() || open) return {};
    const auto given = key_of(request);
    bool is_known = false;
    for (const auto& key : rules.api_keys) is_known = same_key(given, key) || is_known;
    if (is_known) return {};
    return std::unexpected(ApiError{.status = kUnauthorized,
                                    .message = "the API key is missing or wrong: send it as Authorization: Bearer KEY",
                                    .code = "invalid_api_key"});
}

}  // namespace cake::server
