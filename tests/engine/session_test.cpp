#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <format>
#include <fstream>
#include <random>
#include <stdexcept>

#include "cake/engine.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<char>;

class Session : public testing::Test {
  protected:
    Session() { fs::create_directories(folder); }
    ~Session() override { fs::remove_all(folder); }

    static Engine load_engine(const std::string& name) {
        auto engine = Engine::load(test::model_path(name), {.threads = 1, .n_batch = 64});
        if (!engine) throw std::runtime_error(engine.error().message);
        return std::move(*engine);
    }

    Sequence start(const SequenceOptions& options) const {
        auto sequence = engine.sequence(options);
        if (!sequence) throw std::runtime_error(sequence.error().message);
        return std::move(*sequence);
    }

    /// A text read and an answer begun: its last token has not been read yet.
    Sequence begun(const SequenceOptions& options) const {
        auto sequence = start(options);
        if (auto read = sequence.append(tokens); !read) throw std::runtime_error(read.error().message);
        generate(sequence, 20);
        return sequence;
    }

    static std::vector<Token> generate(Sequence& sequence, int64_t n) {
        std::vector<Token> result;
        for (const Token t : sequence.generate({.max_tokens = n, .ignore_eos = true, .sampling = {.temperature = 0}}))
            result.push_back(t);
        return result;
    }

    std::string error_of(const std::string& file) const {
        const auto loaded = Sequence::load(engine, file);
        return loaded ? "" : loaded.error().message;
    }

    static Bytes read(const std::string& file) {
        std::ifstream in(file, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    static void write(const std::string& file, const Bytes& bytes) {
        std::ofstream(file, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    /// Makes the checksum that of the content, as somebody would who means harm.
    static void seal(Bytes& bytes) {
        const uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - sizeof(sum));
        std::memcpy(bytes.data() + bytes.size() - sizeof(sum), &sum, sizeof(sum));
    }

    const fs::path folder = fs::temp_directory_path() / std::format("cake-session-{}", ::getpid());
    const std::string path = folder / "a.session";
    const Engine engine = load_engine("f32");
    const std::vector<Token> tokens = test::sample_tokens(engine, 260);
};

TEST_F(Session, GoesOnAsIfItHadNeverStopped) {
    for (const auto* policy :
         {"cake", "full", "h2o", "tova", "ada-snapkv", "streaming-llm", "random:preference-heads"}) {
        for (const auto* type : {"f16", "q4_0"}) {
            SCOPED_TRACE(std::string(policy) + " " + type);
            SequenceOptions options{.policy = policy, .window = 8, .cache_type_k = type, .cache_type_v = type};
            if (std::string_view(policy) == "full")
                options.max_tokens = 500;
            else
                options.budget = TokensPerLayer{64};
            auto kept = begun(options);
            kept.set_note("said \"so\" far\n");
            const auto saved = kept.save(path);
            ASSERT_TRUE(saved) << saved.error().message;
            auto loaded = Sequence::load(engine, path);
            ASSERT_TRUE(loaded) << loaded.error().message;
            EXPECT_EQ(loaded->note(), kept.note());
            EXPECT_EQ(loaded->n_tokens(), kept.n_tokens());
            EXPECT_EQ(loaded->options().policy, policy);
            EXPECT_EQ(loaded->memory().kv_bytes_now, kept.memory().kv_bytes_now);
            EXPECT_EQ(loaded->memory().budget_tokens_per_layer, kept.memory().budget_tokens_per_layer);
            EXPECT_EQ(generate(*loaded, 60), generate(kept, 60));
            for (auto* sequence : {&kept, &*loaded}) ASSERT_TRUE(sequence->append(std::span(tokens).first(100)));
            EXPECT_TRUE(std::ranges::equal(loaded->logits(), kept.logits()));
            EXPECT_EQ(generate(*loaded, 40), generate(kept, 40));
            for (size_t i = 0; i < kept.layers().size(); i++) {
                EXPECT_EQ(loaded->layers()[i].kept, kept.layers()[i].kept);
                EXPECT_EQ(loaded->layers()[i].preference, kept.layers()[i].preference);
            }
        }
    }
}

TEST_F(Session, IsSavedOverAnEarlierOneAndLeavesNoOtherFile) {
    auto sequence = begun({.budget = TokensPerLayer{64}});
    write(path, Bytes(10, 'x'));
    ASSERT_TRUE(sequence.save(path));
    const auto first = read(path);
    generate(sequence, 5);
    ASSERT_TRUE(sequence.save(path));
    EXPECT_NE(read(path), first);
    EXPECT_TRUE(Sequence::load(engine, path));
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), {}), 1);
}

TEST_F(Session, CannotBeSavedWhereThereIsNothingOrNowhere) {
    EXPECT_FALSE(start({}).save(path)) << "nothing has been read";
    auto sequence = begun({.budget = TokensPerLayer{64}});
    EXPECT_FALSE(sequence.save(folder / "none" / "a.session"));
    const auto into_folder = sequence.save(folder);
    ASSERT_FALSE(into_folder);
    EXPECT_NE(into_folder.error().message.find("plain file"), std::string::npos) << into_folder.error().message;
    sequence.set_note(std::string(size_t{9} << 20U, 'x'));
    EXPECT_FALSE(sequence.save(path));
    EXPECT_TRUE(fs::is_empty(folder));
}

TEST_F(Session, OfAnotherKindIsRefusedWithItsReason) {
    const auto expect = [&](const std::string& file, const std::string& reason) {
        const auto error = error_of(file);
        EXPECT_TRUE(error.starts_with(file + ": ")) << error;
        EXPECT_NE(error.find(reason), std::string::npos) << error;
    };
    expect(folder / "none", "No such file");
    expect(folder, "plain file");
    expect(test::model_path("f32"), "not a session");
    write(path, {});
    expect(path, "not a session");

    auto sequence = begun({.budget = TokensPerLayer{64}});
    ASSERT_TRUE(sequence.save(path));
    auto newer = read(path);
    newer[8] = 2;
    seal(newer);
    write(path, newer);
    expect(path, "version 2");

    ASSERT_TRUE(sequence.save(path));
    const auto other = load_engine("tied");
    const auto loaded = Sequence::load(other, path);
    ASSERT_FALSE(loaded);
    EXPECT_NE(loaded.error().message.find("another model"), std::string::npos) << loaded.error().message;
}

TEST_F(Session, CutAnywhereIsRefused) {
    ASSERT_TRUE(begun({.budget = TokensPerLayer{40}}).save(path));
    const auto whole = read(path);
    const std::string cut = folder / "cut.session";
    for (size_t i = 0; i < 300; i++) {
        const size_t n = i < 100 ? i : whole.size() - 1 - (i - 100) * (whole.size() - 200) / 200;
        auto bytes = Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(n));
        write(cut, bytes);
        ASSERT_NE(error_of(cut), "") << n;
        if (n < 24) continue;
        seal(bytes);
        write(cut, bytes);
        ASSERT_NE(error_of(cut), "") << n << ", with a checksum that is right";
    }
}

/// Damages a few bytes, numbers of the header more often than not.
void damage(Bytes& bytes, std::mt19937_64& random) {
    uint32_t header_bytes = 0;
    std::memcpy(&header_bytes, bytes.data() + 12, sizeof(header_bytes));
    const auto draw = [&](uint64_t n) { return static_cast<size_t>(random() % n); };
    for (size_t i = 0; i < 1 + draw(4); i++) {
        switch (draw(4)) {
            case 0:
                bytes[draw(bytes.size())] = static_cast<char>(random());
                break;
            case 1:
                bytes[16 + draw(header_bytes)] = "0123456789-{}[],:\"e."[draw(20)];
                break;
            default: {  // a digit of a number
                size_t at = 16 + draw(header_bytes);
                while (at < 16 + header_bytes && std::isdigit(static_cast<unsigned char>(bytes[at])) == 0) at++;
                if (at < 16 + header_bytes) bytes[at] = static_cast<char>('0' + draw(10));
            }
        }
    }
}

TEST_F(Session, DamagedAtRandomIsRefusedOrHarmless) {
    const std::string damaged = folder / "damaged.session";
    size_t n_loaded = 0;
    size_t n_refused = 0;
    for (const auto* policy : {"cake", "h2o:preference-heads", "full"}) {
        SequenceOptions options{.policy = policy, .window = 8};
        if (std::string_view(policy) == "full")
            options.max_tokens = 400;
        else
            options.budget = TokensPerLayer{40};
        ASSERT_TRUE(begun(options).save(path));
        const auto whole = read(path);
        for (uint64_t seed = 1; seed <= 500; seed++) {
            SCOPED_TRACE(testing::Message() << policy << " seed " << seed);
            std::mt19937_64 random(seed);
            auto bytes = whole;
            damage(bytes, random);
            if (bytes == whole) continue;
            write(damaged, bytes);
            ASSERT_NE(error_of(damaged), "") << "the checksum tells";
            seal(bytes);
            write(damaged, bytes);
            auto loaded = Sequence::load(engine, damaged);
            if (!loaded) {
                ASSERT_TRUE(loaded.error().message.starts_with(damaged)) << loaded.error().message;
                n_refused++;
                continue;
            }
            n_loaded++;
            // What it gives may be nonsense, but goes on within its bound or ends with an error.
            generate(*loaded, 12);
            [[maybe_unused]] const auto read_on = loaded->append(std::span(tokens).first(20));
            generate(*loaded, 3);
            ASSERT_LE(loaded->memory().kv_bytes_now, loaded->memory().kv_bytes_budget);
        }
    }
    EXPECT_GT(n_loaded, 100U);
    EXPECT_GT(n_refused, 300U);
}

}  // namespace
}  // namespace cake
