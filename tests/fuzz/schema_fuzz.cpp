// Compiles random JSON schemas, strictly and leniently, and draws texts under those that are accepted. A text that came
// to its end must be JSON.

#include <array>
#include <map>
#include <random>
#include <regex>
#include <vector>

#include "cake/constraint.hpp"
#include "fuzz/body_maker.hpp"
#include "fuzz/loop.hpp"
#include "support/test_vocabulary.hpp"
#include "text/sampler.hpp"
#include "text/utf8.hpp"

namespace {

using namespace cake;

constexpr int kMaxTokens = 60;  // of a text
// Under a sanitizer, which makes a mask about four times as slow. Its limit (bridge/src/guide.rs) is about 15 ms.
constexpr double kMaxMaskSeconds = 0.5;
constexpr double kMaxSeconds = 5 + 2 * kMaxTokens * 4 * 0.015;  // of an input, whose schema is compiled twice

class Fuzz {
  public:
    Fuzz(const Vocabulary& vocabulary, uint64_t seed) : vocabulary_(vocabulary), random_(seed) {
        logits_.resize(2 * n_vocab());
        for (float& logit : logits_) logit = static_cast<float>(random_() % 1000) / 100;
    }

    std::string look(const std::string& schema) {
        for (const bool lenient : {false, true}) {
            const auto made = Constraint::json_schema(schema, lenient);
            counts[made ? "accepted" : "refused"]++;
            auto wrong = made ? look_at(*made) : look_at(made.error());
            if (!wrong.empty()) return wrong + (lenient ? ", leniently" : ", strictly");
        }
        return {};
    }

    std::map<std::string, int64_t> counts;

  private:
    static std::string look_at(const Error& error) {
        if (error.message.empty() || error.message.size() > (1U << 16U)) return "an error without a sentence";
        if (error.message.contains('\n')) return "an error of several lines";
        return error.message.contains("panic") ? error.message : "";
    }

    std::string look_at(const Constraint& constraint) {
        auto begun = constraint.rule().begin(vocabulary_);
        if (!begun) return look_at(begun.error());
        Sampler sampler({.temperature = 1, .seed = 1}, vocabulary_, static_cast<int32_t>(n_vocab()), std::move(*begun));
        std::string text;
        for (int i = 0; i < kMaxTokens; i++) {
            const double before = test::FuzzLoop::processor_seconds();
            const auto token = sampler.sample(std::span(logits_).subspan(random_() % n_vocab(), n_vocab()));
            if (test::FuzzLoop::processor_seconds() - before > kMaxMaskSeconds) return "a mask took too long: " + text;
            if (!token) {
                counts["stuck"]++;
                return look_at(token.error());
            }
            if (vocabulary_.is_end_of_generation(*token)) {
                counts["ended"]++;
                // nlohmann accepts no number beyond a double.
                const auto small = std::regex_replace(text, std::regex("[eE][+-]?[0-9]+"), "e0");
                return nlohmann::json::accept(small) ? "" : "a text that is not JSON: " + text;
            }
            text += vocabulary_.piece(*token);
        }
        return {};
    }

    size_t n_vocab() const { return static_cast<size_t>(vocabulary_.n_tokens()); }

    const Vocabulary& vocabulary_;
    std::mt19937_64 random_;
    std::vector<float> logits_;  // random, twice the vocabulary; each token uses a different offset
};

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{"Random JSON schemas."};
    std::string model;
    app.add_option("model", model, "a GGUF file, for its vocabulary")->required();
    test::FuzzLoop loop(app, 100'000, kMaxSeconds);
    CLI11_PARSE(app, argc, argv);
    const auto vocabulary = test::vocabulary_of(model);
    test::BodyMaker maker(loop.seed());
    Fuzz fuzz(vocabulary, loop.seed());
    const int code =
        loop.run([&] { return maker.schema_text(); }, [&](const std::string& text) { return fuzz.look(text); });
    test::print_counts(fuzz.counts);
    return code;
}
