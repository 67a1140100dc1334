// What crosses from a device to the host: the statistics of attention and the logits, and never K or V.
//
// The functions of ggml that read from a device are replaced by ones that count, also where ggml itself calls them.

#include <dlfcn.h>
#include <ggml-backend.h>
#include <gtest/gtest.h>

#include <atomic>

#include "cake/engine.hpp"
#include "support/llama_reference.hpp"
#include "support/rpc_server.hpp"
#include "support/test_models.hpp"

namespace {

std::atomic<size_t> g_bytes_read = 0;

void count(const ggml_tensor* tensor, size_t n_bytes) {
    ggml_backend_buffer_t buffer = tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
    if (!ggml_backend_buffer_is_host(buffer)) g_bytes_read += n_bytes;
}

template <typename Function>
Function* next_of(Function*, const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void ggml_backend_tensor_get(const ggml_tensor* tensor, void* data, size_t offset, size_t size) {
    static auto* next = next_of(&ggml_backend_tensor_get, "ggml_backend_tensor_get");
    count(tensor, size);
    next(tensor, data, offset, size);
}

void ggml_backend_tensor_get_async(ggml_backend_t backend, const ggml_tensor* tensor, void* data, size_t offset,
                                   size_t size) {
    static auto* next = next_of(&ggml_backend_tensor_get_async, "ggml_backend_tensor_get_async");
    count(tensor, size);
    next(backend, tensor, data, offset, size);
}

void ggml_backend_tensor_get_2d(const ggml_tensor* tensor, void* data, size_t offset, size_t size, size_t n_copies,
                                size_t stride_tensor, size_t stride_data) {
    static auto* next = next_of(&ggml_backend_tensor_get_2d, "ggml_backend_tensor_get_2d");
    const size_t before = g_bytes_read;
    next(tensor, data, offset, size, n_copies, stride_tensor, stride_data);
    g_bytes_read = before;  // where it reads copy by copy
    count(tensor, size * n_copies);
}

}  // extern "C"

namespace cake {
namespace {

constexpr int64_t kPrompt = 160;
constexpr int32_t kWindow = 8;

class Transfers : public testing::TestWithParam<std::string> {};

TEST_P(Transfers, AreStatisticsAndLogitsAndNeverKOrV) {
    if (GetParam() == "RPC0") test::use_rpc_servers();
    const auto engine = Engine::load(test::model_path("qwen3"), {.n_batch = 64, .devices = {.device = GetParam()}});
    ASSERT_TRUE(engine) << engine.error().message;
    const auto& info = engine->info();
    const auto tokens = test::sample_tokens(*engine, kPrompt + 32);
    const auto kv = engine->kv_token_bytes("f16", "f16");
    ASSERT_TRUE(kv);
    const size_t logits = static_cast<size_t>(info.n_vocab) * sizeof(float);
    for (const std::string policy : {"cake", "snapkv", "ada-snapkv", "tova"}) {
        SCOPED_TRACE(policy);
        auto sequence = test::start(*engine, {.policy = policy, .budget = TokensPerLayer{48}, .window = kWindow});
        g_bytes_read = 0;
        test::append(sequence, std::span(tokens).first(kPrompt));
        // Mean, variance and last attention of each key outside the window, and two sums, for each query head.
        const auto n_keys = static_cast<size_t>(kPrompt - kWindow);
        const size_t stats = static_cast<size_t>(info.n_head) * (3 * n_keys + 2) * sizeof(float);
        EXPECT_EQ(g_bytes_read, static_cast<size_t>(info.n_layer) * stats + logits);
        EXPECT_LT(stats, kPrompt * kv->layer) << "the statistics would hide a layer's K and V";

        size_t n_evictions = 0;
        g_bytes_read = 0;
        for (const Token token : std::span(tokens).last(32)) {
            const size_t before = g_bytes_read;
            ASSERT_TRUE(sequence.decode(token));
            n_evictions += g_bytes_read - before > logits ? 1 : 0;
        }
        EXPECT_GT(n_evictions, 0U);
        EXPECT_LT(n_evictions, 32U);
        const size_t most = static_cast<size_t>(info.n_head) * (3 * 4 * 48 + 2) * sizeof(float);
        EXPECT_LE(g_bytes_read, 32 * logits + n_evictions * static_cast<size_t>(info.n_layer) * most);
    }
}

INSTANTIATE_TEST_SUITE_P(, Transfers, testing::Values("Vulkan0", "RPC0"),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace cake
