#include "memory/kv_store.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <stdexcept>

#include "support/cpu.hpp"

namespace cake {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes read_row(const ggml_tensor* tensor, int64_t slot) {
    Bytes row(tensor->nb[1]);
    ggml_backend_tensor_get(tensor, row.data(), static_cast<size_t>(slot) * row.size(), row.size());
    return row;
}

void write_row(ggml_tensor* tensor, int64_t slot, const Bytes& row) {
    ggml_backend_tensor_set(tensor, row.data(), static_cast<size_t>(slot) * row.size(), row.size());
}

Bytes random_bytes(std::mt19937_64& random, size_t n) {
    Bytes bytes(n);
    for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
    return bytes;
}

/// Expected content of a slot.
struct Token {
    int32_t position;
    float score;
    float sum;
    Bytes k;
    Bytes v;
};

struct Types {
    ggml_type k;
    ggml_type v;
    int32_t layers_of_first_part;  // the others are in a second part
};

class KvStoreOfTypes : public testing::TestWithParam<Types> {
  protected:
    static constexpr int32_t kLayers = 4;
    static constexpr int32_t kHeads = 3;
    static constexpr int32_t kTokensPerLayer = 12;
    static constexpr int32_t kFlightTokens = 20;

    static KvStore create(Accountant& accountant, const KvShape& shape) {
        const DeviceMemory memory(test::cpu_buffer_type());
        const LayerMemory parts(
            {{.end = GetParam().layers_of_first_part, .memory = memory}, {.end = kLayers, .memory = memory}});
        auto store = KvStore::create(accountant, parts, shape, kTokensPerLayer);
        if (!store) throw std::runtime_error(store.error().message);
        return std::move(*store);
    }

    static KvBuffer make_flight(Accountant& accountant, const KvShape& shape) {
        auto flight = KvBuffer::allocate(accountant, test::cpu_buffer_type(), shape, kFlightTokens * kHeads,
                                         "the layer in flight");
        if (!flight) throw std::runtime_error(flight.error().message);
        return std::move(*flight);
    }

    std::vector<Token>& expected(int32_t layer, int32_t head) {
        return model[static_cast<size_t>(layer * kHeads + head)];
    }

    int64_t draw(int64_t low, int64_t high) { return std::uniform_int_distribution(low, high)(random); }

    std::vector<int32_t> random_subset(int64_t n, int64_t n_kept) {
        std::vector<int32_t> all(static_cast<size_t>(n));
        std::iota(all.begin(), all.end(), 0);
        std::vector<int32_t> kept;
        std::ranges::sample(all, std::back_inserter(kept), n_kept, random);
        return kept;
    }

    void keep() {
        const auto layer = static_cast<int32_t>(draw(0, kLayers - 1));
        const auto head = static_cast<int32_t>(draw(0, kHeads - 1));
        auto& tokens = expected(layer, head);
        const auto n = static_cast<int64_t>(tokens.size());
        const auto kept = random_subset(n, draw(0, n));
        store.keep(layer, head, kept);
        std::vector<Token> still;
        for (const int32_t i : kept) still.push_back(tokens[static_cast<size_t>(i)]);
        tokens = std::move(still);
    }

    /// Capacities that are large enough for what the runs hold; the rest of `total` is distributed at random.
    std::vector<int32_t> random_capacities(size_t first_run, size_t n_runs, int32_t total) {
        std::vector<int32_t> capacities;
        for (size_t run = first_run; run < first_run + n_runs; run++)
            capacities.push_back(static_cast<int32_t>(model[run].size()));
        int32_t left = total - std::accumulate(capacities.begin(), capacities.end(), 0);
        std::vector<size_t> order(n_runs);
        std::iota(order.begin(), order.end(), 0);
        std::ranges::shuffle(order, random);
        for (const size_t run : order) {
            const auto more = static_cast<int32_t>(draw(0, left));
            capacities[run] += more;
            left -= more;
        }
        capacities[order.back()] += left;
        return capacities;
    }

    void arrange() {
        const auto capacities = random_capacities(0, model.size(), kTokensPerLayer * kLayers * kHeads);
        store.arrange(capacities);
        for (size_t run = 0; run < model.size(); run++) {
            ASSERT_EQ(store.runs(static_cast<int32_t>(run) / kHeads)[run % kHeads].capacity, capacities[run]);
        }
    }

    void arrange_layer() {
        const auto layer = static_cast<int32_t>(draw(0, kLayers - 1));
        int32_t room = 0;
        for (const cake::Run& run : store.runs(layer)) room += run.capacity;
        const auto capacities = random_capacities(static_cast<size_t>(layer * kHeads), kHeads, room);
        store.arrange_layer(layer, capacities);
        for (size_t head = 0; head < kHeads; head++) ASSERT_EQ(store.runs(layer)[head].capacity, capacities[head]);
    }

    void load() {
        for (int64_t slot = 0; slot < flight.n_slots(); slot++) {
            write_row(flight.k(), slot, random_bytes(random, shape.row_bytes_k()));
            write_row(flight.v(), slot, random_bytes(random, shape.row_bytes_v()));
        }
        const auto layer = static_cast<int32_t>(draw(0, kLayers - 1));
        for (int32_t head = 0; head < kHeads; head++) {
            const cake::Run& run = store.runs(layer)[static_cast<size_t>(head)];
            const int64_t base = head * kFlightTokens;
            const auto kept = random_subset(kFlightTokens, draw(0, run.capacity - run.length));
            std::vector<int32_t> positions;
            std::vector<float> scores;
            for (const int32_t i : kept) {
                positions.push_back(next_position + i);
                scores.push_back(static_cast<float>(draw(0, 1000)));
                expected(layer, head)
                    .push_back({.position = positions.back(),
                                .score = scores.back(),
                                .sum = -scores.back(),
                                .k = read_row(flight.k(), base + i),
                                .v = read_row(flight.v(), base + i)});
            }
            store.load(layer, head, flight, base, kept);
            const auto n = static_cast<ptrdiff_t>(kept.size());
            std::ranges::copy(positions, store.positions(layer, head).end() - n);
            std::ranges::copy(scores, store.scores(layer, head).end() - n);
            std::ranges::transform(scores, store.sums(layer, head).end() - n, std::negate{});
        }
        next_position += kFlightTokens;
    }

    void push() {
        const auto layer = static_cast<int32_t>(draw(0, kLayers - 1));
        for (const cake::Run& run : store.runs(layer))
            if (run.length == run.capacity) return;
        store.push(layer, next_position);
        for (int32_t head = 0; head < kHeads; head++) {
            const cake::Run& run = store.runs(layer)[static_cast<size_t>(head)];
            const auto& token = expected(layer, head)
                                    .emplace_back(next_position, 0.0F, 0.0F, random_bytes(random, shape.row_bytes_k()),
                                                  random_bytes(random, shape.row_bytes_v()));
            write_row(store.buffer(layer).k(), run.begin + run.length - 1, token.k);
            write_row(store.buffer(layer).v(), run.begin + run.length - 1, token.v);
        }
        next_position++;
    }

    void rescore() {
        const auto layer = static_cast<int32_t>(draw(0, kLayers - 1));
        const auto head = static_cast<int32_t>(draw(0, kHeads - 1));
        auto& tokens = expected(layer, head);
        const auto scores = store.scores(layer, head);
        const auto sums = store.sums(layer, head);
        ASSERT_EQ(scores.size(), tokens.size());
        ASSERT_EQ(sums.size(), tokens.size());
        for (size_t i = 0; i < tokens.size(); i++) sums[i] = tokens[i].sum = static_cast<float>(draw(0, 1000));
        for (size_t i = 0; i < tokens.size(); i++) scores[i] = tokens[i].score = static_cast<float>(draw(0, 1000));
    }

    void check() {
        size_t n_slots = 0;
        int64_t end = 0;
        for (int32_t layer = 0; layer < kLayers; layer++) {
            if (layer > 0 && &store.buffer(layer) != &store.buffer(layer - 1)) end = 0;
            size_t n_layer_slots = 0;
            for (int32_t head = 0; head < kHeads; head++) n_layer_slots += expected(layer, head).size();
            ASSERT_EQ(store.n_held(layer), static_cast<int64_t>(n_layer_slots));
            ASSERT_EQ(store.tokens_held(layer), static_cast<int64_t>((n_layer_slots + kHeads - 1) / kHeads));
            for (int32_t head = 0; head < kHeads; head++) {
                SCOPED_TRACE(testing::Message() << "layer " << layer << " head " << head);
                const cake::Run& run = store.runs(layer)[static_cast<size_t>(head)];
                const auto& tokens = expected(layer, head);
                ASSERT_EQ(static_cast<size_t>(run.length), tokens.size());
                ASSERT_LE(run.length, run.capacity);
                ASSERT_GE(run.begin, end) << "the run reaches into the one before";
                end = run.begin + run.capacity;
                ASSERT_LE(end, store.buffer(layer).n_slots());
                n_slots += tokens.size();
                for (size_t i = 0; i < tokens.size(); i++) {
                    ASSERT_EQ(store.positions(layer, head)[i], tokens[i].position);
                    ASSERT_EQ(store.scores(layer, head)[i], tokens[i].score);
                    ASSERT_EQ(store.sums(layer, head)[i], tokens[i].sum);
                    ASSERT_EQ(read_row(store.buffer(layer).k(), run.begin + static_cast<int64_t>(i)), tokens[i].k);
                    ASSERT_EQ(read_row(store.buffer(layer).v(), run.begin + static_cast<int64_t>(i)), tokens[i].v);
                }
            }
        }
        ASSERT_EQ(store.bytes_used(), n_slots * shape.slot_bytes());
    }

    const KvShape shape = {.n_layer = kLayers,
                           .n_head_kv = kHeads,
                           .head_dim_k = 64,
                           .head_dim_v = 32,
                           .type_k = GetParam().k,
                           .type_v = GetParam().v};
    Accountant accountant;
    KvStore store = create(accountant, shape);
    KvBuffer flight = make_flight(accountant, shape);
    std::mt19937_64 random;
    std::vector<std::vector<Token>> model;  // [n_head_kv, n_layer]
    int32_t next_position = 0;
};

TEST_P(KvStoreOfTypes, HoldsWhatAListOfTokensWouldThroughAnySequenceOfOperations) {
    const size_t bytes = accountant.bytes_now(MemoryUse::kv);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        random.seed(seed);
        model.assign(static_cast<size_t>(kLayers * kHeads), {});
        store = create(accountant, shape);
        int n_loaded = 0;
        for (int step = 0; step < 120; step++) {
            SCOPED_TRACE(testing::Message() << "step " << step);
            switch (draw(0, 7)) {
                case 0:
                    keep();
                    break;
                case 1:
                case 2:
                    arrange();
                    break;
                case 3:
                    load();
                    break;
                case 4:
                    rescore();
                    break;
                case 5:
                    arrange_layer();
                    break;
                default:
                    push();
                    break;
            }
            check();
            if (HasFatalFailure()) return;
            if (store.bytes_used() > 0) n_loaded++;
        }
        EXPECT_GT(n_loaded, 60) << "the sequence leaves the store empty";
    }
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), bytes);
}

INSTANTIATE_TEST_SUITE_P(
    Types, KvStoreOfTypes,
    testing::Values(Types{GGML_TYPE_F32, GGML_TYPE_F32, 4}, Types{GGML_TYPE_F16, GGML_TYPE_F16, 4},
                    Types{GGML_TYPE_BF16, GGML_TYPE_F16, 4}, Types{GGML_TYPE_Q8_0, GGML_TYPE_Q8_0, 4},
                    Types{GGML_TYPE_Q4_0, GGML_TYPE_Q4_0, 4}, Types{GGML_TYPE_Q8_0, GGML_TYPE_F32, 4},
                    Types{GGML_TYPE_F16, GGML_TYPE_F16, 1}, Types{GGML_TYPE_Q8_0, GGML_TYPE_F32, 3}),
    [](const auto& instance) {
        return fmt::format("{}_{}_{}", ggml_type_name(instance.param.k), ggml_type_name(instance.param.v),
                           instance.param.layers_of_first_part);
    });

constexpr KvShape kSmall = {
    .n_layer = 2, .n_head_kv = 1, .head_dim_k = 4, .head_dim_v = 4, .type_k = GGML_TYPE_F32, .type_v = GGML_TYPE_F32};

TEST(KvStore, IsAllocatedOnceAtItsBudget) {
    Accountant accountant;
    auto store = KvStore::create(accountant, test::cpu_buffer_type(), kSmall, 10);
    ASSERT_TRUE(store);
    EXPECT_EQ(store->capacity_tokens(), 20);
    EXPECT_EQ(store->bytes_used(), 0U);
    EXPECT_EQ(store->bytes_allocated(), 20 * kSmall.slot_bytes());
    EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), store->bytes_allocated());
    store->arrange(std::vector<int32_t>{19, 1});
    store->arrange(std::vector<int32_t>{0, 20});
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), store->bytes_allocated());
}

TEST(KvStore, LayersOfUnequalRoomLieOneAfterTheOther) {
    Accountant accountant;
    auto store = KvStore::create(accountant, test::cpu_buffer_type(), kSmall, 5);
    ASSERT_TRUE(store);
    store->arrange(std::vector<int32_t>{3, 7});
    for (const int32_t position : {10, 11, 12}) store->push(0, position);
    for (const int32_t position : {20, 21}) store->push(1, position);
    EXPECT_EQ(store->runs(0).front().begin, 0);
    EXPECT_EQ(store->runs(1).front().begin, 3);
    store->keep(0, 0, std::vector<int32_t>{2});
    store->arrange(std::vector<int32_t>{1, 9});
    EXPECT_EQ(store->runs(1).front().begin, 1);
    EXPECT_EQ(store->runs(1).front().capacity, 9);
    const auto first = store->positions(0, 0);
    const auto second = store->positions(1, 0);
    EXPECT_EQ(std::vector(first.begin(), first.end()), (std::vector<int32_t>{12}));
    EXPECT_EQ(std::vector(second.begin(), second.end()), (std::vector<int32_t>{20, 21}));
    EXPECT_EQ(store->bytes_used(), 3 * kSmall.slot_bytes());
}

/// With shares of any size, each device has room for the whole budget; with equal ones, for that of its own layers.
TEST(KvStore, EveryPartHasRoomForWhatItsLayersMayGet) {
    const DeviceMemory memory(test::cpu_buffer_type());
    const LayerMemory parts({{.end = 1, .memory = memory}, {.end = 2, .memory = memory}});
    for (const auto shares : {LayerShares::any, LayerShares::equal}) {
        Accountant accountant;
        auto store = KvStore::create(accountant, parts, kSmall, 5, {}, shares);
        ASSERT_TRUE(store);
        EXPECT_EQ(store->capacity_tokens(), 10);
        EXPECT_EQ(store->bytes_allocated(),
                  2 * kv_buffer_bytes(test::cpu_buffer_type(), kSmall, shares == LayerShares::any ? 10 : 5));
        EXPECT_EQ(accountant.bytes_now(MemoryUse::kv), store->bytes_allocated());
        store->arrange(shares == LayerShares::any ? std::vector<int32_t>{9, 1} : std::vector<int32_t>{5, 5});
        store->push(0, 1);
        store->push(1, 2);
        EXPECT_NE(store->buffer(0).k()->data, store->buffer(1).k()->data);
        EXPECT_EQ(store->positions(0, 0).front(), 1);
        EXPECT_EQ(store->positions(1, 0).front(), 2);
    }
}

TEST(KvStore, ABudgetThatTheDeviceCannotGiveIsRefused) {
    Accountant accountant;
    const auto store = KvStore::create(accountant, test::cpu_buffer_type(), kSmall, int64_t{1} << 50U);
    ASSERT_FALSE(store);
    EXPECT_TRUE(store.error().message.starts_with("the K/V budget needs ")) << store.error().message;
    EXPECT_EQ(accountant.bytes_peak(MemoryUse::kv), 0U);
}

}  // namespace
}  // namespace cake
