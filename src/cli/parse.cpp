#include "cli/parse.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace cake::cli {

namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/// Removes the digits at the beginning of `text` and returns them.
std::string_view take_digits(std::string_view& text) {
    const auto end = std::ranges::find_if_not(text, is_digit);
    const auto digits = text.substr(0, static_cast<size_t>(end - text.begin()));
    text.remove_prefix(digits.size());
    return digits;
}

bool take_one_of(std::string_view& text, std::string_view characters) {
    if (text.empty() || !characters.contains(text.front())) return false;
    text.remove_prefix(1);
    return true;
}

/// True for "12", "-1", "0.5", ".5", "1e-3". A leading zero is refused, because some parsers read it as octal.
bool is_plain_number(std::string_view text) {
    take_one_of(text, "+-");
    const auto whole = take_digits(text);
    const auto fraction = take_one_of(text, ".") ? take_digits(text) : std::string_view();
    if (whole.empty() && fraction.empty()) return false;
    if (whole.size() > 1 && whole.front() == '0') return false;
    if (take_one_of(text, "eE")) {
        take_one_of(text, "+-");
        if (take_digits(text).empty()) return false;
    }
    return text.empty();
}

/// True unless the type of the option is known to be text, so that new options are checked by default.
bool takes_number(const CLI::Option& option) {
    constexpr std::string_view kTexts[] = {"ADDRESS", "FILE", "FOLDER", "FORMAT", "HOST", "JSON", "KEY",  "LAYERS",
                                           "MODE",    "NAME", "ORIGIN", "SHARES", "SIZE", "TASK", "TEXT", "TYPE"};
    if (option.get_items_expected_min() == 0) return false;  // a flag, or an optional value
    const auto shown = option.get_type_name();               // "NAME|FILE", "TOKENS,…", "N:INT in [1 - 512]"
    const auto end = std::ranges::find_if_not(shown, [](char c) { return c >= 'A' && c <= 'Z'; });
    return !std::ranges::contains(kTexts, std::string_view(shown.begin(), end));
}

}  // namespace

CLI::Validator number_in(double least, double most) {
    const auto check = [=](const std::string& text) {
        double number = 0;
        const bool good = CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
        return good ? std::string() : fmt::format("\"{}\" is not a number from {} to {}", text, least, most);
    };
    return {check, ""};
}

void require_plain_numbers(CLI::App& app) {
    const CLI::Validator plain(
        [](const std::string& text) {
            return is_plain_number(text) ? std::string()
                                         : fmt::format("\"{}\" is not a number: write it like 10, -1 or 0.5", text);
        },
        "");
    for (auto* option : app.get_options())
        if (takes_number(*option)) option->transform(plain);  // unlike check(), runs before the option's own checks
    for (auto* command : app.get_subcommands({})) require_plain_numbers(*command);
}

Result<uint64_t> parse_size(const std::string& text) {
    const auto wrong = [&] {
        return fail(fmt::format("\"{}\" is not a size; write it like 500MiB, 2GiB or a number of bytes", text));
    };
    double number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || !(number > 0)) return wrong();
    std::string_view unit(end, text.data() + text.size());
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    double factor = 1;
    if (!unit.empty() && unit != "B") {
        constexpr std::string_view kUnits = "KMGT";
        const auto power = kUnits.find(static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front()))));
        const auto rest = unit.substr(1);
        if (power == std::string_view::npos ||
            !(rest.empty() || rest == "B" || rest == "iB" || rest == "b" || rest == "ib"))
            return wrong();
        factor = std::pow(1024.0, static_cast<double>(power + 1));
    }
    const double bytes = number * factor;
    if (bytes >= 9e18) return fail(fmt::format("\"{}\" is more memory than any machine has", text));
    return static_cast<uint64_t>(bytes);
}

std::string format_bytes(uint64_t n_bytes) {
    constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    auto value = static_cast<double>(n_bytes);
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(kUnits)) {
        value /= 1024;
        unit++;
    }
    return unit == 0 ? fmt::format("{} bytes", n_bytes)
                     : fmt::format("{:.{}f} {}", value,
                                   value < 10    ? 2
                                   : value < 100 ? 1
                                                 : 0,
                                   kUnits[unit]);
}

std::string format_count(uint64_t n) {
    std::string digits = std::to_string(n);
    for (auto i = static_cast<ptrdiff_t>(digits.size()) - 3; i > 0; i -= 3) digits.insert(static_cast<size_t>(i), ",");
    return digits;
}

}  // namespace cake::cli
