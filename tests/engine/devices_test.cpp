// Models on other devices than the CPU: Vulkan, in software (Mesa's lavapipe), and ggml's RPC servers on this machine.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <ranges>

#include "cake/device.hpp"
#include "cake/engine.hpp"
#include "engine/sequence_config.hpp"
#include "engine/session.hpp"
#include "support/cpu.hpp"
#include "support/llama_reference.hpp"
#include "support/rpc_server.hpp"
#include "support/test_models.hpp"

namespace cake {
namespace {

constexpr int64_t kPrompt = 160;
constexpr int64_t kDecoded = 24;
constexpr float kTolerance = 1e-3F;  // as a share of the largest logit

/// Where the layers of a model are.
struct Placement {
    std::string name;  // of the test
    DeviceOptions options;
};

Engine load_on(const DeviceOptions& devices, const std::string& model, bool ggml_attention = false) {
    auto engine = Engine::load(test::model_path(model),
                               {.threads = 2, .n_batch = 64, .ggml_attention = ggml_attention, .devices = devices});
    if (!engine) throw std::runtime_error(engine.error().message);
    return std::move(*engine);
}

const DeviceOptions kCpu{.device = "none"};
constexpr const char* kVulkan = "Vulkan0";  // the environment of the suite makes it visible

/// Number of the KV head and position in the text of every token that is held, sorted.
std::vector<int64_t> held(const Sequence& sequence, const ModelInfo& info) {
    std::vector<int64_t> all;
    for (int32_t layer = 0; layer < info.n_layer; layer++) {
        for (int32_t head = 0; head < info.n_head_kv; head++) {
            const int64_t number = int64_t{layer} * info.n_head_kv + head;
            for (const int32_t position : sequence.positions(layer, head)) all.push_back((number << 32) + position);
        }
    }
    return all;
}

/// Scores of the tokens that are held, by their numbers in held().
std::map<int64_t, float> scores_of(const Engine& engine, const Sequence& sequence) {
    const auto path = (std::filesystem::temp_directory_path() / fmt::format("cake-scores-{}", getpid())).string();
    if (auto saved = sequence.save(path); !saved) throw std::runtime_error(saved.error().message);
    const auto parts = load_session(EngineAccess::state(engine), path);
    std::filesystem::remove(path);
    if (!parts) throw std::runtime_error(parts.error().message);
    const auto& store = (*parts)->cache.sliced;
    std::map<int64_t, float> scores;
    for (const int32_t layer : store.layers()) {
        for (int32_t head = 0; head < engine.info().n_head_kv; head++) {
            const int64_t number = int64_t{layer} * engine.info().n_head_kv + head;
            for (const auto& [position, score] :
                 std::views::zip(store.positions(layer, head), store.scores(layer, head)))
                scores[(number << 32) + position] = score;
        }
    }
    return scores;
}

/// Where one kept a token and the other did not, it kept another one of the same head with the same score.
void expect_ties(const std::map<int64_t, float>& ours, const std::map<int64_t, float>& theirs) {
    using Scores = std::map<int64_t, std::vector<float>>;  // by head
    const auto only_in = [](const auto& some, const auto& others) {
        Scores scores;
        for (const auto& [number, score] : some)
            if (!others.contains(number)) scores[number >> 32].push_back(score);
        for (auto& [head, of_head] : scores) std::ranges::sort(of_head);
        return scores;
    };
    const Scores a = only_in(ours, theirs);
    const Scores b = only_in(theirs, ours);
    ASSERT_TRUE(std::ranges::equal(a | std::views::keys, b | std::views::keys));
    for (const auto& [head, scores] : a) {
        const auto& others = b.at(head);
        ASSERT_EQ(scores.size(), others.size()) << "head " << head;
        for (size_t i = 0; i < scores.size(); i++)
            EXPECT_NEAR(scores[i], others[i], kTolerance * std::abs(others[i])) << "head " << head;
    }
}

/// Share of the numbers of `a` that `b` has too; both are sorted.
double overlap(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    std::vector<int64_t> both;
    std::ranges::set_intersection(a, b, std::back_inserter(both));
    return static_cast<double>(both.size()) / static_cast<double>(std::max(a.size(), b.size()));
}

/// A share of the largest logit.
float share_of_largest(std::span<const float> logits, float share) {
    return share * std::abs(std::ranges::max(logits, {}, [](float x) { return std::abs(x); }));
}

bool are_near(std::span<const float> ours, std::span<const float> theirs, float share) {
    const float tolerance = share_of_largest(theirs, share);
    return std::ranges::all_of(std::views::zip(ours, theirs), [&](const auto& pair) {
        return std::abs(std::get<0>(pair) - std::get<1>(pair)) <= tolerance;
    });
}

void expect_near(std::span<const float> ours, std::span<const float> theirs, float share) {
    const float tolerance = share_of_largest(theirs, share);
    for (size_t i = 0; i < theirs.size(); i++) ASSERT_NEAR(ours[i], theirs[i], tolerance) << "token " << i;
}

/// On each device, a layer is held in full beside the budget.
void expect_bounded(const MemoryReport& memory) {
    EXPECT_LE(memory.kv_bytes_peak, memory.kv_bytes_budget + memory.layer_bytes);
    uint64_t budget = 0;
    uint64_t peak = 0;
    for (const auto& device : memory.devices) {
        EXPECT_LE(device.kv_bytes_allocated, device.kv_bytes_budget) << device.device;
        EXPECT_LE(device.kv_bytes_peak, device.kv_bytes_budget + memory.layer_bytes) << device.device;
        budget += device.kv_bytes_budget;
        peak += device.kv_bytes_peak;
    }
    EXPECT_EQ(budget, memory.kv_bytes_budget);
    EXPECT_EQ(peak, memory.kv_bytes_peak) << "every device is filled at the beginning of a prefill";
}

class Device : public testing::TestWithParam<std::tuple<std::string, Placement>> {
  protected:
    void SetUp() override {
        test::use_float32_products();  // as the devices do
        if (is_remote()) test::use_rpc_servers();
    }
    const std::string& model() const { return std::get<0>(GetParam()); }
    const DeviceOptions& devices() const { return std::get<1>(GetParam()).options; }
    /// The servers of the tests compute on the CPU, too, so the results are the same.
    bool is_remote() const { return devices().device.contains("RPC"); }
};

/// Vulkan multiplies in f32 here (GGML_VK_DISABLE_F16), as our own kernels do. The servers use ggml's attention, which
/// rounds more, so theirs is compared with it.
TEST_P(Device, GivesTheLogitsOfTheCpuAndKeepsItsTokens) {
    const auto device = load_on(devices(), model(), is_remote());
    const auto cpu = load_on(kCpu, model(), is_remote());
    EXPECT_FALSE(device.info().devices.empty());
    EXPECT_TRUE(cpu.info().devices.empty());
    const bool has_experts = cpu.info().n_expert > 0 && !is_remote();
    // In a sliding window, the tiles in which attention adds values begin at other slots.
    const float tolerance = cpu.info().n_swa_layers > 0 ? 2 * kTolerance : kTolerance;
    const auto tokens = test::sample_tokens(device, kPrompt + kDecoded);
    for (const std::string type : {"f16", "q8_0"}) {
        // A sum in another order can round a value to the next step of q8_0, which is larger than the tolerance.
        const bool is_exact = type == "f16" || is_remote();
        for (const std::string policy : {"full", "cake", "snapkv", "h2o", "ada-snapkv"}) {
            SCOPED_TRACE(fmt::format("{} {}", policy, type));
            SequenceOptions options{.policy = policy, .window = 8, .cache_type_k = type, .cache_type_v = type};
            if (policy == "full")
                options.max_tokens = kPrompt + kDecoded;
            else
                options.budget = TokensPerLayer{48};
            auto theirs = test::start(cpu, options);
            auto ours = test::start(device, options);
            test::append(theirs, std::span(tokens).first(kPrompt));
            test::append(ours, std::span(tokens).first(kPrompt));
            EXPECT_LE(test::kl(theirs.logits(), ours.logits()), 1e-3);
            const auto keep_the_same = [&] { return held(ours, cpu.info()) == held(theirs, cpu.info()); };
            bool same = keep_the_same();
            int64_t n_compared = 0;
            int64_t n_near = 0;
            for (const Token token : std::span(tokens).last(kDecoded)) {
                if (is_exact && !same) break;
                ASSERT_TRUE(theirs.decode(token));
                ASSERT_TRUE(ours.decode(token));
                n_compared++;
                if (are_near(ours.logits(), theirs.logits(), tolerance)) n_near++;
                same = keep_the_same();
            }
            // With random weights, many scores are almost equal. If another expert is chosen for a token, its logits,
            // keys and values differ.
            if (is_exact) {
                EXPECT_GE(n_near, has_experts ? (n_compared + 1) / 2 : n_compared);
            }
            if (is_exact && same && !has_experts)
                expect_near(ours.logits(), theirs.logits(), is_remote() ? tolerance : kTolerance);
            if (is_exact && !same && !has_experts) expect_ties(scores_of(device, ours), scores_of(cpu, theirs));
            if (policy == "full") {
                EXPECT_TRUE(same);
                EXPECT_LE(test::kl(theirs.logits(), ours.logits()), 1e-3);
            }
            EXPECT_GE(overlap(held(ours, cpu.info()), held(theirs, cpu.info())), 0.95);
            expect_bounded(ours.memory());
        }
    }
}

/// On text, scores differ enough that rounding does not change which tokens are kept.
TEST(DeviceOfATrainedModel, KeepsTheSameTokensAndGivesTheSameAnswer) {
    const auto load_bundled = [](const std::string& device) {
        return *Engine::load(CAKE_MODELS "/cake-mini.gguf", {.threads = 2, .devices = {.device = device}});
    };
    const auto device = load_bundled(kVulkan);
    const auto cpu = load_bundled("none");
    std::ifstream file(CAKE_MODELS "/document.txt");
    const std::string document{std::istreambuf_iterator<char>(file), {}};
    const auto tokens =
        *cpu.tokenize(document.substr(0, 2000) + "\nQuestion: What is the code of the humble otter?\nAnswer:");
    for (const auto* policy : {"cake", "cake+", "snapkv", "h2o"}) {
        SCOPED_TRACE(policy);
        auto theirs = test::start(cpu, {.policy = policy, .budget = TokensPerLayer{96}});
        auto ours = test::start(device, {.policy = policy, .budget = TokensPerLayer{96}});
        test::append(theirs, tokens);
        test::append(ours, tokens);
        EXPECT_GE(overlap(held(ours, cpu.info()), held(theirs, cpu.info())), 0.98);
        EXPECT_EQ(std::ranges::max_element(ours.logits()) - ours.logits().begin(),
                  std::ranges::max_element(theirs.logits()) - theirs.logits().begin());
    }
}

/// A layer on a device may read K and V that are on the CPU. Its attention is then computed there, by our kernels. Some
/// scorers also need output norms or a replay.
TEST(DeviceBesideTheCpu, GivesTheLogitsOfTheCpu) {
    test::use_rpc_servers();
    for (const std::string model : {"gemma4", "qwen3"}) {
        const auto cpu = load_on(kCpu, model);
        const auto tokens = test::sample_tokens(cpu, kPrompt + kDecoded);
        const DeviceOptions of_vulkan{.device = kVulkan, .n_gpu_layers = model == "gemma4" ? 7 : 3};
        const DeviceOptions of_rpc{.device = "RPC0", .n_gpu_layers = of_vulkan.n_gpu_layers};
        for (const auto& options :
             {of_vulkan, of_rpc, DeviceOptions{.device = "Vulkan0,CPU", .tensor_split = {1, 1}}}) {
            const auto device = load_on(options, model);
            for (const std::string policy : {"cake", "criticalkv", "kvzip+"}) {
                SCOPED_TRACE(fmt::format("{} {} {}", model, options.device, policy));
                auto theirs = test::start(cpu, {.policy = policy, .budget = TokensPerLayer{48}, .window = 8});
                auto ours = test::start(device, {.policy = policy, .budget = TokensPerLayer{48}, .window = 8});
                test::append(theirs, std::span(tokens).first(kPrompt));
                test::append(ours, std::span(tokens).first(kPrompt));
                for (const Token token : std::span(tokens).last(kDecoded)) {
                    ASSERT_TRUE(theirs.decode(token));
                    ASSERT_TRUE(ours.decode(token));
                }
                // With random weights, the preferences of two layers may be so close that a token moves from one to the
                // other.
                const double same = overlap(held(ours, cpu.info()), held(theirs, cpu.info()));
                EXPECT_GE(same, 0.98);
                if (same == 1) {
                    EXPECT_LE(test::kl(theirs.logits(), ours.logits()), 1e-5);
                }
            }
        }
    }
}

/// Sessions cross over between devices. What is stored is the same, so the logits differ by no steps of q8_0, either.
TEST_P(Device, SessionsGoOnOnTheCpuAndBack) {
    const auto device = load_on(devices(), model(), is_remote());
    const auto cpu = load_on(kCpu, model(), is_remote());
    const auto tokens = test::sample_tokens(cpu, kPrompt);
    const auto path = (std::filesystem::temp_directory_path() / fmt::format("cake-device-{}", getpid())).string();
    for (const auto& [from, to, type] :
         {std::tuple(&device, &cpu, "f16"), {&cpu, &device, "f16"}, {&device, &cpu, "q8_0"}, {&cpu, &device, "q8_0"}}) {
        SCOPED_TRACE(type);
        auto sequence = test::start(
            *from,
            {.policy = "cake", .budget = TokensPerLayer{48}, .window = 8, .cache_type_k = type, .cache_type_v = type});
        test::append(sequence, tokens);
        ASSERT_TRUE(sequence.save(path));
        auto loaded = Sequence::load(*to, path);
        ASSERT_TRUE(loaded) << loaded.error().message;
        EXPECT_EQ(held(*loaded, cpu.info()), held(sequence, cpu.info()));
        ASSERT_TRUE(sequence.decode(tokens[0]));
        ASSERT_TRUE(loaded->decode(tokens[0]));
        expect_near(loaded->logits(), sequence.logits(), kTolerance);
    }
    std::filesystem::remove(path);
}

/// A server reserves this memory before it reads a text of any length.
TEST(DeviceStaging, TakesTheMemoryThatWasPlanned) {
    test::use_rpc_servers();
    const SequenceOptions options{.policy = "cake", .budget = TokensPerLayer{48}, .window = 8};
    for (const auto* model : {"qwen3", "gemma4", "gemma4-moe"}) {
        const auto device = load_on({.device = "RPC0"}, model);
        const auto engine = EngineAccess::state(device);
        const auto config = SequenceConfig::make(engine, options);
        ASSERT_TRUE(config) << config.error().message;
        for (const int64_t n_tokens : {97, 145, 160}) {
            SCOPED_TRACE(fmt::format("{} {}", model, n_tokens));
            auto sequence = test::start(device, options);
            test::append(sequence, test::sample_tokens(device, static_cast<size_t>(n_tokens)));
            EXPECT_EQ(sequence.memory().layer_bytes, staging_bytes(engine->compute.memory(), config->layout, n_tokens));
            expect_bounded(sequence.memory());
        }
    }
}

/// Bytes of this process in memory. The memory of a driver in software is among them.
uint64_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    uint64_t n_pages = 0;
    uint64_t n_resident = 0;
    file >> n_pages >> n_resident;
    return n_resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(DeviceMemory, OfTheDriverIsTheBudgetAndALayer) {
    constexpr uint64_t kBudget = uint64_t{200} << 20;
    constexpr uint64_t kSlack = uint64_t{24} << 20;  // intermediate results, and memory of the driver
    const auto device = load_on({.device = kVulkan}, "qwen3");
    const auto tokens = test::sample_tokens(device, 400);
    auto first = test::start(device, {});
    test::append(first, tokens);  // the driver compiles its programs
    const uint64_t before = resident_bytes();
    auto sequence = test::start(device, {.policy = "cake", .budget = KvBytes{kBudget}});
    test::append(sequence, tokens);
    ASSERT_TRUE(sequence.decode(tokens[0]));
    const uint64_t taken = resident_bytes() - before;
    const auto memory = sequence.memory();
    expect_bounded(memory);
    EXPECT_LE(taken, memory.kv_bytes_budget + memory.layer_bytes + kSlack);
    EXPECT_GE(taken, kBudget - kSlack);
}

/// ggml would abort the process. This driver's limit is 128 MiB.
TEST(DeviceMemory, InOnePieceThatIsTooLargeIsRefused) {
    const auto device = load_on({.device = kVulkan}, "qwen3");
    auto sequence = test::start(device, {.policy = "cake", .budget = KvBytes{uint64_t{300} << 20}});
    const auto appended = sequence.append(test::sample_tokens(device, 400));
    ASSERT_FALSE(appended);
    EXPECT_EQ(appended.error().code, Error::Code::out_of_memory);
    EXPECT_EQ(appended.error().message,
              "the K/V budget would be a tensor of 150 MiB, and the device Vulkan0 cannot compute with one of that "
              "size: use a smaller budget, a shorter text or another device");
}

TEST(DeviceTypes, ThatAreNotSupportedAreRefusedWithThoseThatAre) {
    const auto device = load_on({.device = kVulkan}, "qwen3");
    std::vector<std::string> refused;
    for (const std::string k : {"f16", "bf16", "f32", "q8_0", "q4_0"}) {
        for (const std::string v : {"f16", "bf16", "f32", "q8_0", "q4_0"}) {
            const auto sequence = device.sequence({.cache_type_k = k, .cache_type_v = v});
            if (sequence) continue;
            refused.push_back(fmt::format("{}/{}", k, v));
            const auto& message = sequence.error().message;
            EXPECT_EQ(
                message.find(fmt::format("Vulkan0 cannot compute attention with K of type {} and V of type {}: use "
                                         "one of f16",
                                         k, v)),
                0U)
                << message;
        }
    }
    for (const auto* type : {"f16/f16", "q8_0/q8_0", "q4_0/q4_0"})
        EXPECT_FALSE(std::ranges::contains(refused, type)) << type;
    EXPECT_TRUE(std::ranges::contains(refused, "q4_0/bf16")) << "this driver could compute with all types";
}

TEST(DeviceNames, ThatDoNotExistAreRefusedWithThoseThatDo) {
    const auto engine = Engine::load(test::model_path("qwen3"), {.devices = {.device = "Vulkan7"}});
    ASSERT_FALSE(engine);
    EXPECT_NE(engine.error().message.find("no device \"Vulkan7\" here: use "), std::string::npos)
        << engine.error().message;
    EXPECT_NE(engine.error().message.find("Vulkan0 or none"), std::string::npos) << engine.error().message;
}

TEST(DeviceNames, TheCpuCannotComputeTheLayersBeforeAndAfterADevice) {
    const auto engine = Engine::load(test::model_path("qwen3"),
                                     {.devices = {.device = "Vulkan0,CPU", .n_gpu_layers = 3, .tensor_split = {1, 1}}});
    ASSERT_FALSE(engine);
    EXPECT_NE(engine.error().message.find("name it first and once"), std::string::npos) << engine.error().message;
}

/// The tests' models have 4 layers or more.
const std::vector<Placement> kPlacements = {
    {.name = "Vulkan", .options = {.device = kVulkan}},
    {.name = "CpuAndVulkan", .options = {.device = kVulkan, .n_gpu_layers = 3}},
    {.name = "CpuAndRpc", .options = {.device = "RPC0", .n_gpu_layers = 3}},
    {.name = "RpcAndRpc", .options = {.device = "RPC0,RPC1", .tensor_split = {1, 1}}},
};

INSTANTIATE_TEST_SUITE_P(, Device,
                         testing::Combine(testing::Values("llama", "qwen2", "qwen3", "gemma3", "gpt-oss", "deepseek2",
                                                          "qwen35"),
                                          testing::ValuesIn(kPlacements)),
                         [](const auto& instance) {
                             std::string name = std::get<0>(instance.param);
                             std::ranges::replace(name, '-', '_');
                             return name + "_" + std::get<1>(instance.param).name;
                         });

}  // namespace
}  // namespace cake
