#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include <random>

#include "cake/engine.hpp"
#include "engine/engine_state.hpp"
#include "engine/session.hpp"
#include "engine/staging_layer.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

namespace fs = std::filesystem;
using test::generate;
using Bytes = std::vector<char>;
using Json = nlohmann::json;

class Session : public testing::Test {
  protected:
    Session() { fs::create_directories(folder); }
    ~Session() override { fs::remove_all(folder); }

    /// A sequence with a prompt and a partial answer, whose last token has not been passed through the model yet.
    Sequence begun(const SequenceOptions& options) const {
        auto sequence = test::start(engine, options);
        test::append(sequence, tokens);
        generate(sequence, 20);
        return sequence;
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
    /// Makes the checksum match the content, as an attacker would.
    static void seal(Bytes& bytes) {
        const uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - sizeof(sum));
        std::memcpy(bytes.data() + bytes.size() - sizeof(sum), &sum, sizeof(sum));
    }

    /// Edits the header of a saved session and makes the file look intact.
    void edit_header(const std::function<void(Json&)>& edit) const {
        auto bytes = read(path);
        uint32_t n = 0;
        std::memcpy(&n, bytes.data() + 12, sizeof(n));
        auto header = Json::parse(bytes.begin() + 16, bytes.begin() + 16 + n);
        edit(header);
        const auto text = header.dump();
        const auto n_new = static_cast<uint32_t>(text.size());
        std::memcpy(bytes.data() + 12, &n_new, sizeof(n_new));
        bytes.erase(bytes.begin() + 16, bytes.begin() + 16 + n);
        bytes.insert(bytes.begin() + 16, text.begin(), text.end());
        seal(bytes);
        write(path, bytes);
    }

    const fs::path folder = fs::temp_directory_path() / fmt::format("cake-session-{}", ::getpid());
    const std::string path = folder / "a.session";
    const Engine engine = test::load("f32", 64);
    const std::vector<Token> tokens = test::sample_tokens(engine, 260);
};

TEST_F(Session, GoesOnAsIfItHadNeverStopped) {
    for (const auto* policy : {"cake", "full", "h2o", "tova", "ada-snapkv", "streaming-llm", "random:preference-heads",
                               "kvzip", "random:entropy"}) {
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

/// A server reserves memory for a layer with that many tokens. In a sliding window, there may be more than in the
/// others.
TEST_F(Session, IsDescribedWithTheTokensOfItsFullestLayer) {
    for (const auto* model : {"qwen3", "gemma3"}) {
        SCOPED_TRACE(model);
        const auto other = *Engine::load(test::model_path(model), {.threads = 1});
        auto sequence = test::start(other, {.policy = "cake", .budget = TokensPerLayer{16}, .window = 8});
        test::append(sequence, test::sample_tokens(other, 160));
        ASSERT_TRUE(sequence.save(path));
        const auto state = EngineAccess::state(other);
        const auto described = describe_session(state, path);
        const auto loaded = load_session(state, path);
        ASSERT_TRUE(described && loaded);
        EXPECT_EQ(described->longest_run, max_held(**loaded));
    }
}

/// A text that is appended after loading displaces nothing if there is more room, and the bound is larger by that room.
TEST_F(Session, WithMoreRoomKeepsAllThatWasSaved) {
    constexpr int64_t kMore = 48;
    for (const auto* policy : {"cake", "ada-snapkv", "kvzip", "h2o", "streaming-llm"}) {
        SCOPED_TRACE(policy);
        auto kept = begun({.policy = policy, .budget = TokensPerLayer{64}, .window = 8});
        ASSERT_TRUE(kept.save(path));
        auto loaded = Sequence::load(engine, path, kMore);
        ASSERT_TRUE(loaded) << loaded.error().message;
        EXPECT_EQ(loaded->memory().budget_tokens_per_layer, 64 + kMore);
        ASSERT_TRUE(loaded->append(std::span(tokens).first(20)));
        generate(*loaded, 10);
        for (int32_t layer = 0; layer < engine.info().n_layer; layer++) {
            for (int32_t head = 0; head < engine.info().n_head_kv; head++) {
                const auto before = kept.positions(layer, head);
                const auto after = loaded->positions(layer, head);
                EXPECT_TRUE(std::ranges::includes(after, before)) << "layer " << layer << " head " << head;
            }
        }
        generate(*loaded, 200);
        const auto memory = loaded->memory();
        EXPECT_LE(memory.kv_bytes_now, memory.kv_bytes_budget);
        ASSERT_TRUE(loaded->save(path));
        auto again = Sequence::load(engine, path);
        ASSERT_TRUE(again) << again.error().message;
        EXPECT_EQ(generate(*again, 40), generate(*loaded, 40));
    }
}

TEST_F(Session, OfAFullCacheGetsMoreRoom) {
    auto kept = begun({.policy = "full", .window = 8, .max_tokens = 300});
    ASSERT_TRUE(kept.save(path));
    auto loaded = Sequence::load(engine, path, 100);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->memory().budget_tokens_per_layer, 400);
    EXPECT_TRUE(loaded->append(std::span(tokens).first(100)));
    EXPECT_FALSE(Sequence::load(engine, path, -1));
    EXPECT_FALSE(Sequence::load(engine, path, int64_t{1} << 40));
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
    EXPECT_FALSE(test::start(engine, {}).save(path)) << "nothing has been read";
    auto sequence = begun({.budget = TokensPerLayer{64}});
    EXPECT_FALSE(sequence.save(folder / "none" / "a.session"));
    const auto into_folder = sequence.save(folder);
    ASSERT_FALSE(into_folder);
    EXPECT_NE(into_folder.error().message.find("plain file"), std::string::npos) << into_folder.error().message;
    sequence.set_note(std::string(size_t{9} << 20U, 'x'));
    EXPECT_FALSE(sequence.save(path));
    sequence.set_note(std::string(size_t{3} << 20U, '\xFF'));
    EXPECT_FALSE(sequence.save(path)) << "what is not UTF-8 becomes longer";
    EXPECT_TRUE(fs::is_empty(folder));
    sequence.set_note("\xFF said");
    EXPECT_TRUE(sequence.save(path));
    const auto loaded = Sequence::load(engine, path);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->note(), "\uFFFD said");
}

TEST_F(Session, OfAnotherKindIsRefusedWithItsReason) {
    const auto expect = [&](const std::string& file, const std::string& reason) {
        const auto error = error_of(file);
        EXPECT_TRUE(error.starts_with(file + ": ")) << error;
        EXPECT_NE(error.find(reason), std::string::npos) << error;
    };
    expect(folder / "none", "No such file");
    expect(folder, "plain file");
    expect(test::model_path("f32"), "not a cake session");
    write(path, {});
    expect(path, "not a cake session");

    auto sequence = begun({.budget = TokensPerLayer{64}});
    ASSERT_TRUE(sequence.save(path));
    auto newer = read(path);
    newer[8] = 2;
    seal(newer);
    write(path, newer);
    expect(path, "version 2");

    ASSERT_TRUE(sequence.save(path));
    const auto other = test::load("tied");
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

TEST_F(Session, OfWhatTheEngineWouldNotLeaveIsRefused) {
    // Moves slots from one head to another. Their sum, and so the expected file size, stay the same.
    const auto shift = [](int64_t length, int64_t capacity) {
        return [=](Json& header) {
            auto& runs = header["layers"][1]["runs"];
            const auto add = [](Json& number, int64_t n) { number = number.get<int64_t>() + n; };
            for (const int sign : {1, -1}) {
                add(runs[sign > 0 ? 0 : 1][0], sign * length);
                add(runs[sign > 0 ? 0 : 1][1], sign * capacity);
            }
        };
    };
    const auto grow_budget = [](Json& header, int64_t n) {
        auto& layer = header["layers"][0];
        layer["budget"] = layer["budget"].get<int64_t>() + n;
        for (auto& run : layer["runs"]) run[1] = run[1].get<int64_t>() + n;
    };
    const SequenceOptions cake{.budget = TokensPerLayer{50}, .window = 8};
    const SequenceOptions full{.policy = "full", .max_tokens = 400};
    const struct {
        const char* what;
        SequenceOptions options;
        std::function<void(Json&)> edit;
        const char* reason;
    } cases[] = {
        {"heads of unequal length", cake, shift(3, 3), "layers"},
        {"heads with unequal room", cake, shift(0, 3), "layers"},
        {"a full cache that does not hold the text", full,
         [](Json& header) { header["n_tokens"] = header["n_tokens"].get<int64_t>() - 1; }, "layers"},
        {"a full cache without the room of its context", full,
         [](Json& header) {
             for (auto& layer : header["layers"]) {
                 layer["budget"] = layer["budget"].get<int64_t>() - 100;
                 for (auto& run : layer["runs"]) run[1] = run[1].get<int64_t>() - 100;
             }
         },
         "layers"},
        {"a layer with more room than the others", cake, [&](Json& header) { grow_budget(header, 1); }, "free slots"},
        {"heads shorter than the window",
         {.policy = "ada-snapkv", .budget = TokensPerLayer{50}, .window = 8},
         [](Json& header) {
             auto& runs = header["layers"][0]["runs"];
             const auto n = runs[0][0].get<int64_t>() - 1;
             for (int i : {0, 1}) {
                 runs[0][static_cast<size_t>(i)] = runs[0][static_cast<size_t>(i)].get<int64_t>() - n;
                 runs[1][static_cast<size_t>(i)] = runs[1][static_cast<size_t>(i)].get<int64_t>() + n;
             }
         },
         "layers"},
        {"no queries", cake, [](Json& header) { header["ring"] = {0, 0}; }, "size"},
        {"a window that does not fit", cake, [](Json& header) { header["options"]["window"] = 49; }, "ring"},
        {"a budget that is not that of its layers", cake, [](Json& header) { header["tokens_per_layer"] = 45; },
         "more than its budget"},
        {"a budget without end", cake,
         [](Json& header) {
             header["tokens_per_layer"] = 1'000'000'000;
             header["options"]["evict_interval"] = 2;
         },
         ""},
        {"more queries unread than there are", cake, [](Json& header) { header["layers"][0]["n_unread"] = 1; },
         "layers"},
        {"a note that is too long", cake, [](Json& header) { header["note"] = std::string(size_t{9} << 20U, 'x'); },
         "note"},
        {"a header that nests deep", cake,
         [](Json& header) {
             Json deep = Json::array();
             for (int i = 0; i < 100; i++) deep = Json::array({deep});
             header["deep"] = deep;
         },
         "not JSON"},
    };
    for (const auto& each : cases) {
        SCOPED_TRACE(each.what);
        ASSERT_TRUE(begun(each.options).save(path));
        ASSERT_EQ(error_of(path), "");
        edit_header(each.edit);
        const auto error = error_of(path);
        if (std::string_view(each.reason).empty()) continue;  // refused only if the machine has too little memory
        EXPECT_TRUE(error.starts_with(path + ": ")) << error;
        EXPECT_NE(error.find(each.reason), std::string::npos) << error;
    }
}

TEST_F(Session, OfTheSmallestBudgetGoesOn) {
    for (const auto* policy : {"cake", "h2o:adaptive-heads", "keydiff"}) {
        SCOPED_TRACE(policy);
        auto kept = begun({.policy = policy, .budget = TokensPerLayer{1}, .window = 1});
        ASSERT_TRUE(kept.save(path));
        auto loaded = Sequence::load(engine, path);
        ASSERT_TRUE(loaded) << loaded.error().message;
        EXPECT_EQ(generate(*loaded, 10), generate(kept, 10));
    }
}

TEST_F(Session, WithNumbersThatAreNoneIsHarmless) {
    for (const auto* policy : {"cake", "h2o", "ada-snapkv"}) {
        SCOPED_TRACE(policy);
        ASSERT_TRUE(begun({.policy = policy, .budget = TokensPerLayer{40}, .window = 8}).save(path));
        const auto whole = read(path);
        uint32_t header_bytes = 0;
        std::memcpy(&header_bytes, whole.data() + 12, sizeof(header_bytes));
        // Setting all bits makes a NaN: first in the window's queries, which follow the logits, then in the last
        // values.
        const size_t queries = 16 + header_bytes + sizeof(float) * static_cast<size_t>(engine.info().n_vocab);
        for (const size_t at : {queries, whole.size() - 8 - 64}) {
            auto bytes = whole;
            std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), 64, '\xFF');
            seal(bytes);
            write(path, bytes);
            auto loaded = Sequence::load(engine, path);
            ASSERT_TRUE(loaded) << loaded.error().message;
            generate(*loaded, 60);
            EXPECT_TRUE(at == queries || loaded->error().message.contains("not finite")) << loaded->error().message;
            EXPECT_TRUE(loaded->append(std::span(tokens).first(100)));
            EXPECT_LE(loaded->memory().kv_bytes_now, loaded->memory().kv_bytes_budget);
        }
    }
}

/// Damages a few bytes; about half of the changes are to numbers in the header.
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
            // Its output may be nonsense, but it stays within its bound or ends with an error.
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
