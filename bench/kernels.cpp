// Compares our attention with ggml's on the same threads and K/V: GFLOP/s, and for decoding the bytes of K/V read per
// second. usage: ./dev bench kernels [--benchmark_filter=…]

#include <benchmark/benchmark.h>

#include <random>
#include <stdexcept>

#include "backend/attention.hpp"
#include "eviction/analyzer.hpp"
#include "memory/kv_buffer.hpp"

namespace cake {
namespace {

constexpr int32_t kDim = 64;
constexpr int32_t kHeads = 14;
constexpr int32_t kThreads = 2;
constexpr int64_t kLayers = 24;  // enough that decoding reads K/V from memory, as in a model, and not from CPU caches

template <typename T>
T value_of(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().message);
    return std::move(*result);
}
void check(const Result<void>& done) {
    if (!done) throw std::runtime_error(done.error().message);
}

/// Random keys and values with the shape of a 0.5B model.
struct Cache {
    Compute compute = value_of(Compute::create(kThreads));
    Accountant accountant;
    KvBuffer buffer;

    Cache(ggml_type type, int64_t n_slots) {
        const KvShape shape{
            .n_layer = 1, .n_head_kv = 2, .head_dim_k = kDim, .head_dim_v = kDim, .type_k = type, .type_v = type};
        buffer = value_of(KvBuffer::allocate(accountant, compute.memory().part(0), shape, n_slots, "the benchmark's"));
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        std::vector<float> values(static_cast<size_t>(n_slots) * kDim);
        for (float& x : values) x = normal(random);
        for (auto* rows : {buffer.k(), buffer.v()}) {
            std::vector<std::byte> bytes(static_cast<size_t>(n_slots) * rows->nb[1]);
            ggml_quantize_chunk(type, values.data(), bytes.data(), 0, n_slots, kDim, nullptr);
            ggml_backend_tensor_set(rows, bytes.data(), 0, bytes.size());
        }
    }
};

/// Attention of the `n_queries` newest tokens over `length` slots: in all layers for decoding, in one for prefill.
void attention(benchmark::State& state, bool kernels, ggml_type type, int64_t n_queries, int64_t length) {
    const int64_t n_layer = n_queries == 1 ? kLayers : 1;
    Cache cache(type, n_layer * 2 * length);
    GraphRunner runner(cache.compute, cache.accountant);
    while (state.KeepRunning()) {
        state.PauseTiming();
        Graph graph(16 * static_cast<size_t>(n_layer) + 16);
        ggml_tensor* flat = graph.input(GGML_TYPE_F32, int64_t{kDim} * kHeads, n_queries);
        ggml_tensor* query = ggml_reshape_3d(graph.context(), flat, kDim, kHeads, n_queries);
        std::vector<Attended> attended;
        for (int64_t layer = 0; layer < n_layer; layer++) {
            const std::vector<HeadSlots> heads = {{.begin = 2 * layer * length, .length = length},
                                                  {.begin = (2 * layer + 1) * length, .length = length}};
            attended.push_back(attend(graph, {.kernels = kernels, .n_threads = kThreads}, {.scale = 0.125F}, query,
                                      {{.k = cache.buffer.k(), .v = cache.buffer.v(), .heads = heads}}));
            graph.output(attended.back().node);
        }
        check(runner.allocate(graph));
        const std::vector<float> queries(static_cast<size_t>(ggml_nelements(flat)), 0.3F);
        set_input<float>(flat, queries);
        for (const auto& each : attended) set_masks(each);
        state.ResumeTiming();
        check(runner.compute(graph));
    }
    const double keys =
        static_cast<double>(n_queries) * (static_cast<double>(length) - static_cast<double>(n_queries - 1) / 2);
    const double operations = 4.0 * kDim * kHeads * static_cast<double>(n_layer) * keys;
    state.counters["GFLOP/s"] = benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
    if (n_queries == 1)
        state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(ggml_nbytes(cache.buffer.k()) * 2));
}

void define() {
    for (const auto type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
        for (const bool kernels : {true, false}) {
            const auto name = [&](const char* what) {
                return std::string(what) + "/" + ggml_type_name(type) + (kernels ? "/ours" : "/ggml");
            };
            benchmark::RegisterBenchmark(name("prefill 512 of 8192"), attention, kernels, type, 512, 8192)
                ->UseRealTime();
            for (const int64_t length : {1024, 8192})
                benchmark::RegisterBenchmark(name("decode") + "/" + std::to_string(length), attention, kernels, type, 1,
                                             length)
                    ->UseRealTime();
        }
    }
}

}  // namespace
}  // namespace cake

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    cake::define();
    benchmark::RunSpecifiedBenchmarks();
}
