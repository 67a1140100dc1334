#include "cli/parse.hpp"

#include <charconv>
#include <cmath>
#include <format>

namespace cake::cli {

CLI::Validator number_in(double least, double most) {
    const auto check = [=](const std::string& text) {
        double number = 0;
        const bool good = CLI::detail::lexical_cast(text, number) && number >= least && number <= most;
        return good ? std::string() : std::format("\"{}\" is not a number from {} to {}", text, least, most);
    };
    return {check, ""};
}

Result<uint64_t> parse_size(const std::string& text) {
    const auto wrong = [&] {
        return fail(std::format("\"{}\" is not a size; write it like 500MiB, 2GiB or a number of bytes", text));
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
    if (bytes >= 9e18) return fail(std::format("\"{}\" is more than any machine has", text));
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
    return unit == 0 ? std::format("{} bytes", n_bytes)
                     : std::format("{:.{}f} {}", value,
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
