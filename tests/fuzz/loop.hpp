#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <map>
#include <string>

namespace cake::test {

/// Runs a fuzzer until it has made enough inputs, its time is over, or an input shows a fault.
class FuzzLoop {
  public:
    /// `too_long`: seconds of CPU time, under a sanitizer, after which an input counts as a fault.
    FuzzLoop(CLI::App& app, int64_t runs, double too_long = 5) : runs_(runs), too_long_(too_long) {
        app.add_option("--runs", runs_, "number of inputs")->capture_default_str();
        app.add_option("--seconds", seconds_, "end after this time, whatever --runs says");
        app.add_option("--seed", seed_)->capture_default_str();
        app.add_option("--from", from_, "only make the inputs before this one");
    }

    uint64_t seed() const { return seed_; }

    /// `make` returns an input, and `look` what is wrong with its outcome, or an empty text. Returns an exit code.
    template <typename Make, typename Look>
    int run(Make make, Look look) {
        const auto begin = std::chrono::steady_clock::now();
        const auto elapsed = [&] {
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        };
        double longest = 0;
        double reported = 0;
        int64_t i = 0;
        for (; i < runs_ && (seconds_ == 0 || elapsed() < seconds_); i++) {
            const std::string input = make();
            if (i < from_) continue;
            constexpr double kReportSeconds = 30;
            if (i == from_ || elapsed() - reported >= kReportSeconds) {
                reported = elapsed();
                std::fprintf(stderr, "input %lld after %.0f s\n", static_cast<long long>(i),
                             elapsed());  // for --from after a crash
            }
            const double before = processor_seconds();
            auto wrong = look(input);
            const double taken = processor_seconds() - before;
            longest = std::max(longest, taken);
            if (wrong.empty() && taken > too_long_) wrong = "it took too long";
            if (wrong.empty()) continue;
            std::fprintf(stderr, "seed %llu, input %lld: %s\n%s\n", static_cast<unsigned long long>(seed_),
                         static_cast<long long>(i), wrong.c_str(), input.c_str());
            return 1;
        }
        std::printf("seed %llu: %lld inputs in %.0f s, the slowest %.2f s\n", static_cast<unsigned long long>(seed_),
                    static_cast<long long>(i), elapsed(), longest);
        return 0;
    }

    /// CPU time of this process, which does not depend on the load of the machine.
    static double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

  private:
    int64_t runs_;
    double too_long_;
    double seconds_ = 0;
    uint64_t seed_ = 1;
    int64_t from_ = 0;
};

/// Prints how often each outcome occurred.
inline void print_counts(const std::map<std::string, int64_t>& counts) {
    for (const auto& [what, n] : counts) std::printf("  %s %lld\n", what.c_str(), static_cast<long long>(n));
}

}  // namespace cake::test
