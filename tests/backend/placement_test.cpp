#include "backend/placement.hpp"

#include <gtest/gtest.h>

#include <random>

#include "backend/compute.hpp"
#include "support/cpu.hpp"

namespace cake {
namespace {

using Layers = std::vector<std::pair<std::string, int32_t>>;

Layers split(const std::vector<std::string>& devices, int32_t n_gpu_layers, const std::vector<double>& shares) {
    Layers layers;
    for (const auto& [device, n_layer] : split_layers(devices, 4, n_gpu_layers, shares))
        layers.emplace_back(device, n_layer);
    return layers;
}

/// A model with 4 layers, and the output.
TEST(Placement, TheLastLayersAreOnDevicesByTheirShares) {
    EXPECT_EQ(split({"A"}, 5, {1}), (Layers{{"A", 5}}));
    EXPECT_EQ(split({"A"}, 1000, {1}), (Layers{{"A", 5}}));
    EXPECT_EQ(split({"A"}, 1, {1}), (Layers{{"", 4}, {"A", 1}}));
    EXPECT_EQ(split({"A", "B"}, 5, {3, 2}), (Layers{{"A", 3}, {"B", 2}}));
    EXPECT_EQ(split({"A", "B"}, 4, {3, 1}), (Layers{{"", 1}, {"A", 3}, {"B", 1}}));
    EXPECT_EQ(split({"A", "B", "C"}, 5, {1, 0, 4}), (Layers{{"A", 1}, {"C", 4}}));
    EXPECT_EQ(split({"A", "CPU"}, 5, {1, 4}), (Layers{{"A", 1}, {"", 4}}));
}

TEST(Placement, EveryLayerIsOnOneDevice) {
    std::mt19937 random(5);
    for (int i = 0; i < 1000; i++) {
        const auto n_devices = std::uniform_int_distribution<size_t>(1, 5)(random);
        const auto n_layer = std::uniform_int_distribution(1, 80)(random);
        const auto n_gpu = std::uniform_int_distribution(1, 100)(random);
        std::vector<std::string> devices;
        std::vector<double> shares;
        for (size_t d = 0; d < n_devices; d++) {
            devices.push_back(std::string(1, static_cast<char>('A' + d)));
            shares.push_back(std::uniform_real_distribution(0.0, 1.0)(random));
        }
        int32_t n_all = 0;
        int32_t n_on_devices = 0;
        for (const auto& [device, n] : split_layers(devices, n_layer, n_gpu, shares)) {
            EXPECT_GT(n, 0);
            n_all += n;
            if (!device.empty()) n_on_devices += n;
        }
        EXPECT_EQ(n_all, n_layer + 1);
        EXPECT_EQ(n_on_devices, std::min(n_gpu, n_layer + 1));
    }
}

TEST(Placement, ImpossibleSharesAndDevicesAreRefused) {
    const auto message_of = [](const DeviceOptions& options) {
        const auto layers = place_layers(options, 4, 1000);
        return layers ? "" : layers.error().message;
    };
    EXPECT_EQ(message_of({.device = "none"}), "");
    EXPECT_EQ(message_of({.device = "Cpu", .n_gpu_layers = 0}).find("there is no device \"Cpu\" here"), 0U);
    EXPECT_EQ(message_of({.main_gpu = 1}),
              "a main device has an effect only if the layers are not split (--split-mode none)");
    EXPECT_EQ(message_of({.device = "Cpu"}).find("there is no device \"Cpu\" here"), 0U);
    EXPECT_EQ(message_of({.device = "CPU,"}).find("there is no device \"\" here"), 0U);
    EXPECT_EQ(message_of({.device = "CPU,CPU", .tensor_split = {1}}),
              "the number of shares is 1 and that of devices 2: give one for each");
    EXPECT_EQ(message_of({.device = "CPU,CPU", .tensor_split = {0, 0}}),
              "the shares of the devices must be numbers of at least 0, and not all 0");
    EXPECT_EQ(message_of({.device = "CPU,CPU", .split_mode = SplitMode::none, .main_gpu = 2}),
              "there is no device number 2, only 0 to 1");
    if (list_devices().empty()) {
        const auto* none = "there is no device here that could compute layers (--list-devices)";
        EXPECT_EQ(message_of({.n_gpu_layers = 3}), none);
        EXPECT_EQ(message_of({.tensor_split = {3, 1}}), none);
        EXPECT_EQ(message_of({.split_mode = SplitMode::none}), none);
        EXPECT_EQ(message_of({.n_gpu_layers = 0, .tensor_split = {3, 1}}), "");
    }
    EXPECT_EQ(message_of({.device = "none", .rpc = "here"}), "") << "the server is not needed";
    EXPECT_EQ(message_of({.rpc = "here"}), "\"here\" is not HOST:PORT, such as 127.0.0.1:50052");
}

TEST(Placement, TheCpuHoldsItsLayersOnce) {
    for (const auto& devices : {std::vector<std::string>{"CPU"}, {"CPU", "CPU"}}) {
        const auto layers = split_layers(devices, 4, 3, std::vector<double>(devices.size(), 1));
        ASSERT_EQ(layers.size(), 1U);
        EXPECT_EQ(layers[0].n_layer, 5);
    }
    EXPECT_EQ(split_layers({"CPU", "A"}, 4, 3, {1, 1}).size(), 2U);
}

TEST(Placement, MemoryFollowsTheLayersAndNotTheOutput) {
    const std::vector<DeviceLayers> layers = {{.device = "", .n_layer = 3}, {.device = "", .n_layer = 1}};
    const auto compute = Compute::create(1, layers);
    ASSERT_TRUE(compute) << compute.error().message;
    EXPECT_EQ(compute->memory().n_parts(), 1U) << "the second device computes only the output";
    const auto two =
        Compute::create(1, std::vector<DeviceLayers>{{.device = "", .n_layer = 2}, {.device = "", .n_layer = 3}});
    ASSERT_TRUE(two) << two.error().message;
    ASSERT_EQ(two->memory().n_parts(), 2U);
    EXPECT_EQ(two->memory().part_of(1), 0U);
    EXPECT_EQ(two->memory().part_of(2), 1U);
    EXPECT_EQ(two->memory().part_of(3), 1U);
    EXPECT_EQ(two->memory().n_layers(1, std::vector<int32_t>{0, 2, 3}), 2);
}

}  // namespace
}  // namespace cake
