// Tasks whose texts are made here: niah, needlebench, ruler.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>
#include <iterator>

#include "eval/jsonl.hpp"
#include "eval/metrics.hpp"
#include "eval/task.hpp"

namespace cake::eval {

namespace {

struct Kind {
    std::string_view name;
    MakePuzzle make;
};

/// Makes the hay: of a text that the user named, where one is.
class Fillers {
  public:
    static Result<Fillers> open(const std::string& name) {
        Fillers fillers;
        fillers.name_ = name;
        if (name == "repeated" || name == "generated") return fillers;
        std::ifstream stream(name, std::ios::binary);
        if (!stream)
            return fail(std::format("the filler {}: {}; \"repeated\", \"generated\" and a text's path are possible",
                                    name, std::strerror(errno)));
        const std::string text{std::istreambuf_iterator<char>(stream), {}};
        fillers.sentences_ = split_sentences(text);
        if (fillers.sentences_.empty()) return fail(std::format("the filler {}: holds no sentence", name));
        return fillers;
    }

    Filler start(Random& random) const {
        if (name_ == "repeated") return repeated_filler();
        return name_ == "generated" ? generated_filler(random) : text_filler(sentences_, random);
    }

  private:
    std::string name_;
    std::vector<std::string> sentences_;
};

/// Every sample has a seed of its own, so that asking for more samples, lengths or depths changes none of the others.
Random seeded(uint64_t seed, std::string_view kind, int64_t length, double depth, int32_t number) {
    std::vector<uint32_t> parts(kind.begin(), kind.end());
    for (const uint64_t part : {seed, static_cast<uint64_t>(length), static_cast<uint64_t>(depth * 1e6 + 2e6),
                                static_cast<uint64_t>(number)}) {
        parts.push_back(static_cast<uint32_t>(part));
        parts.push_back(static_cast<uint32_t>(part >> 32U));
    }
    std::seed_seq sequence(parts.begin(), parts.end());
    return Random(sequence);
}

Result<std::vector<Sample>> hide(const TaskInput& input, std::span<const Kind> kinds, std::span<const double> depths) {
    const auto fillers = Fillers::open(input.filler);
    if (!fillers) return std::unexpected(fillers.error());
    std::vector<Sample> samples;
    for (const auto& [name, make] : kinds) {
        for (const int64_t length : input.lengths) {
            for (const double depth : depths) {
                for (int32_t i = 0; i < input.n_samples; i++) {
                    auto random = seeded(input.seed, name, length, depth, i);
                    const Puzzle puzzle = make(input.wording, random, length);
                    samples.push_back(bury(puzzle, fillers->start(random), length, depth, random, input.count));
                    samples.back().subtasks = {std::string(name)};
                    if (input.count(samples.back().prompt) > length) {
                        return fail(
                            std::format("{} tokens are too few for what has to be hidden ({}): ask for a larger "
                                        "length",
                                        length, name));
                    }
                }
            }
        }
    }
    return samples;
}

constexpr double kAnywhere[] = {-1};

}  // namespace

Result<std::vector<Sample>> niah_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single}};
    return hide(input, kKinds, input.depths);
}

Result<std::vector<Sample>> needlebench_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single}, {"multi", multivalue}, {"reasoning", reasoning}};
    return hide(input, kKinds, kAnywhere);
}

Result<std::vector<Sample>> ruler_samples(const TaskInput& input) {
    constexpr Kind kKinds[] = {{"single", single},
                               {"multikey", multikey},
                               {"multivalue", multivalue},
                               {"tracking", tracking},
                               {"frequent", frequent}};
    if (input.data.empty()) return hide(input, kKinds, kAnywhere);
    return read_samples(input, [](const nlohmann::json& object, const std::string&) -> Result<Sample> {
        auto prompt = string_field(object, "input");
        if (!prompt) return std::unexpected(prompt.error());
        auto answers = strings_field(object, "outputs");
        if (!answers) return std::unexpected(answers.error());
        return Sample{
            .prompt = std::move(*prompt), .answers = std::move(*answers), .metric = contains_all, .max_tokens = 128};
    });
}

}  // namespace cake::eval
