// Checks instances of JSON schemas token by token against the constraint that the server would use.
//
// Each line of the file: {"name": …, "schema": …, "tests": [{"valid": true or false, "data": …}, …]}. An instance is
// wrong if it is valid and not accepted, or invalid and accepted. Only schemas that are accepted strictly are checked.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "support/test_vocabulary.hpp"
#include "text/guide.hpp"

namespace {

using namespace cake;
using Json = nlohmann::ordered_json;

struct Counts {
    size_t n = 0;
    size_t n_accepted = 0;
    size_t n_lenient = 0;
    size_t n_instances = 0;
    size_t n_wrong = 0;
    std::vector<double> check_ms;  // time to check and compile a schema that is accepted
};

class Checker {
  public:
    Checker(const Vocabulary& vocabulary, bool verbose) : vocabulary_(vocabulary), verbose_(verbose) {}

    void check(const Json& line) {
        counts_.n++;
        const auto name = line.value("name", fmt::format("line {}", counts_.n));
        const auto schema = line.at("schema").dump();
        if (const auto lenient = begun(schema, true))
            counts_.n_lenient++;
        else if (verbose_)
            std::cout << fmt::format("{}: not accepted, even leniently: {}\n", name, lenient.error().message);
        const auto begin = std::chrono::steady_clock::now();
        const auto strict = begun(schema, false);
        const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - begin;
        if (!strict) {
            if (verbose_) std::cout << fmt::format("{}: not accepted: {}\n", name, strict.error().message);
            return;
        }
        counts_.n_accepted++;
        counts_.check_ms.push_back(passed.count());
        for (const auto& test : line.at("tests")) {
            counts_.n_instances++;
            const auto text = test.at("data").dump();
            const bool valid = test.at("valid").get<bool>();
            if (accepts(**strict, text) == valid) continue;
            counts_.n_wrong++;
            std::cout << fmt::format("{}: {} and {}: {}\n", name, valid ? "valid" : "invalid",
                                     valid ? "refused" : "accepted", text.substr(0, 200));
        }
    }

    Counts& counts() { return counts_; }

  private:
    Result<std::shared_ptr<const ConstraintRule>> begun(const std::string& schema, bool lenient) const {
        auto rule = make_guide_rule(GuideKind::json_schema, schema, lenient);
        if (!rule) return rule;
        if (auto begun = (*rule)->begin(vocabulary_); !begun) return std::unexpected(begun.error());
        return rule;
    }

    bool accepts(const ConstraintRule& rule, const std::string& text) const {
        const auto restriction = *rule.begin(vocabulary_);
        for (const int32_t token : *vocabulary_.tokenize(text, {.around = false, .written_out = false})) {
            if (!restriction->allows(token) || !restriction->accept(token)) return false;
        }
        return restriction->end().has_value();
    }

    const Vocabulary& vocabulary_;
    bool verbose_;
    Counts counts_;
};

}  // namespace

int main(int argc, char** argv) try {
    CLI::App app{"Checks the instances of JSON schemas against the constraint that the server would use."};
    std::string model;
    std::string file;
    bool verbose = false;
    double least_accepted = 0;
    double least_lenient = 0;
    double most_wrong = 1;
    app.add_option("model", model, "a GGUF file, for its vocabulary")->required();
    app.add_option("file", file, "JSONL with name, schema and tests in each line")->required();
    app.add_flag("-v", verbose, "name every schema that is not accepted, and the reason");
    app.add_option("--least-accepted", least_accepted, "fail if a smaller share of the schemas is accepted");
    app.add_option("--least-lenient", least_lenient, "fail if a smaller share is accepted leniently");
    app.add_option("--most-wrong", most_wrong, "fail if a larger share of the instances is wrong");
    CLI11_PARSE(app, argc, argv);

    const auto vocabulary = test::vocabulary_of(model);
    std::ifstream lines(file);
    if (!lines) throw std::runtime_error(file + " cannot be read");
    Checker checker(vocabulary, verbose);
    for (std::string line; std::getline(lines, line);)
        if (!line.empty()) checker.check(Json::parse(line));

    auto& counts = checker.counts();
    std::ranges::sort(counts.check_ms);
    if (const auto& ms = counts.check_ms; !ms.empty())
        std::cout << fmt::format("time to compile: median {:.1f} ms, 95 % below {:.1f} ms, most {:.1f} ms\n",
                                 ms[ms.size() / 2], ms[ms.size() * 95 / 100], ms.back());
    std::cout << fmt::format("instances: {}\nschemas accepted leniently: {} of {}\n", counts.n_instances,
                             counts.n_lenient, counts.n);
    std::cout << fmt::format("schemas accepted: {} of {}\nwrong instances: {}\n", counts.n_accepted, counts.n,
                             counts.n_wrong);
    const auto n = static_cast<double>(counts.n);
    const bool good = counts.n > 0 && static_cast<double>(counts.n_accepted) >= least_accepted * n &&
                      static_cast<double>(counts.n_lenient) >= least_lenient * n &&
                      static_cast<double>(counts.n_wrong) <= most_wrong * static_cast<double>(counts.n_instances);
    return good ? 0 : 1;
} catch (const std::exception& error) {
    std::cerr << "cake_schemas: " << error.what() << '\n';
    return 2;
}
