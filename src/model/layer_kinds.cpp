#include "model/layer_kinds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace cake {

namespace {

constexpr uint32_t kMaxConv = 64;

void read_state_sizes(KeyReader& keys, Hparams& h) {
    auto& r = h.recurrent;
    const auto kind = h.architecture->recurrence;
    if (kind == Recurrence::short_convolution) {
        r.n_conv = keys.count("shortconv.l_cache", 2, kMaxConv);
        r.n_channels = h.n_embd;
        return;
    }
    r.n_conv = keys.count("ssm.conv_kernel", 2, kMaxConv);
    r.n_head_k = keys.count("ssm.group_count", 1, 4096);
    r.n_head_v = keys.count("ssm.time_step_rank", 1, 4096);
    r.head_dim_k = keys.count("ssm.state_size", 1, 4096);
    const int32_t n_values = keys.count("ssm.inner_size", 1, kMaxWidth);
    r.head_dim_v = std::max(n_values / r.n_head_v, 1);
    const bool square = kind == Recurrence::delta_net;
    if (r.n_head_v % r.n_head_k != 0 || n_values != r.value_width() || (square && r.head_dim_v != r.head_dim_k))
        keys.note("ssm.inner_size, ssm.state_size, ssm.time_step_rank and ssm.group_count do not fit together");
    r.n_channels = 2 * r.key_width() + r.value_width();
    if (kind != Recurrence::delta_net) return;
    const int32_t period = keys.count("full_attention_interval", 1, 4096, 4);
    r.layers = keys.pattern("attention.recurrent_layers", h.n_block, h.n_block_all, period);
    r.layers.resize(static_cast<size_t>(h.n_layer));
}

void check_recurrent_layers(KeyReader& keys, Hparams& h) {
    auto& layers = h.recurrent.layers;
    if (h.architecture->recurrence_beside) layers.assign(static_cast<size_t>(h.n_layer), true);
    const auto n = std::ranges::count(layers, true);
    if (n == 0) return layers.clear();
    if (n == std::ssize(layers) && !h.architecture->recurrence_beside)
        keys.note("no layer attends to the text, so there is no cache to evict from", Error::Code::unsupported);
    constexpr int64_t kMaxStates = int64_t{1} << 30;  // models have about a hundredth
    if (const int64_t n_numbers = n * h.recurrent.n_state(); n_numbers > kMaxStates)
        keys.note(fmt::format("the states of the recurrent layers have {} numbers", n_numbers));
}

/// Files of Granite 4 without recurrent layers state the sizes of such layers.
void ignore_recurrence(KeyReader& keys) {
    for (const auto* size : {"conv_kernel", "state_size", "group_count", "inner_size", "time_step_rank"})
        keys.ignore(fmt::format("ssm.{}", size));
}

void read_windows(KeyReader& keys, Hparams& h) {
    const auto& a = *h.architecture;
    h.swa_layers.assign(static_cast<size_t>(h.n_layer), false);
    if (a.ignores_swa) {
        keys.ignore("attention.sliding_window");
        keys.ignore("attention.sliding_window_pattern");
        return;
    }
    if (a.swa_period == 0) return keys.require("attention.sliding_window", 0);
    h.n_swa = keys.count("attention.sliding_window", 0, kMaxTokens, a.default_swa);
    auto swa_layers =
        keys.pattern("attention.sliding_window_pattern", h.n_block, h.n_block_all, a.swa_period, a.swa_starts_whole);
    swa_layers.resize(static_cast<size_t>(h.n_layer));
    if (a.swa_n_layer > 0 && h.n_layer != a.swa_n_layer) h.n_swa = 0;
    if (h.n_swa == 0) return;
    if (std::ranges::all_of(swa_layers, std::identity{}))
        keys.note("no layer attends to the whole text, so there is no cache to evict from", Error::Code::unsupported);
    h.swa_layers = std::move(swa_layers);
}

/// KV heads of layers with and without a sliding window.
void read_heads_by_kind(KeyReader& keys, Hparams& h) {
    const auto heads = keys.counts("attention.head_count_kv", h.n_block_all, 1, kMaxHeads, h.n_head);
    h.n_head_kv = h.swa_heads.n_head_kv = 0;
    for (int32_t layer = 0; layer < h.n_layer; layer++) {
        int32_t& n = h.is_swa(layer) ? h.swa_heads.n_head_kv : h.n_head_kv;
        const int32_t of_layer = heads[static_cast<size_t>(layer)];
        if (n != 0 && n != of_layer) {
            keys.wrong("attention.head_count_kv", "differs between layers of the same kind", Error::Code::unsupported);
        }
        n = of_layer;
    }
    if (h.swa_heads.n_head_kv == 0) h.swa_heads.n_head_kv = h.n_head_kv;
    if (h.n_head_kv == 0) h.n_head_kv = h.swa_heads.n_head_kv;
}

/// As llama.cpp does, the last layers take K and V from the two layers before them, of which the first has a sliding
/// window.
void read_shared_layers(KeyReader& keys, Hparams& h) {
    h.n_layer_kv_from_start = h.n_layer;
    if (!h.architecture->shared_kv) return keys.require("attention.shared_kv_layers", 0);
    const int32_t n = keys.count("attention.shared_kv_layers", 0, static_cast<uint32_t>(h.n_layer) - 1, 0);
    h.n_layer_kv_from_start -= n;
    if (n == 0) return;
    const int32_t last = h.n_layer_kv_from_start - 1;
    if (last < 1 || h.is_swa(last) || !h.is_swa(last - 1)) {
        keys.wrong("attention.shared_kv_layers",
                   fmt::format("is {}, so that the layers before them do not end with one with a sliding window and "
                               "one without",
                               n),
                   Error::Code::unsupported);
    }
}

/// A feed-forward belongs to the attention or recurrence before it.
void read_separate_blocks(KeyReader& keys, Hparams& h) {
    const auto widths = keys.counts("feed_forward_length", h.n_block_all, 0, kMaxWidth * 8);
    for (int32_t block = 0; block < h.n_block; block++) {
        const auto i = static_cast<size_t>(block);
        if (widths[i] == 0) {
            h.blocks.push_back({.mixer = block, .feed_forward = -1});
        } else if (h.blocks.empty() || h.blocks.back().feed_forward >= 0) {
            keys.note(
                fmt::format("block {} is a feed-forward, and none of attention or recurrence is before it", block),
                Error::Code::unsupported);
        } else {
            h.blocks.back().feed_forward = block;
        }
    }
    if (h.blocks.empty()) h.blocks.emplace_back();
    h.n_layer = static_cast<int32_t>(h.blocks.size());
}

/// Layers without KV heads are recurrent. The others have equally many.
void read_heads_of_blocks(KeyReader& keys, Hparams& h) {
    const auto heads = keys.counts("attention.head_count_kv", h.n_block_all, 0, kMaxHeads);
    h.n_head_kv = std::max(std::ranges::max(heads), 1);
    if (std::ranges::any_of(heads, [&](int32_t n) { return n != 0 && n != h.n_head_kv; }))
        keys.wrong("attention.head_count_kv", "differs between layers", Error::Code::unsupported);
    h.recurrent.layers.clear();
    for (const auto& blocks : h.blocks) h.recurrent.layers.push_back(heads[static_cast<size_t>(blocks.mixer)] == 0);
}

}  // namespace

void read_blocks(KeyReader& keys, Hparams& h) {
    if (h.architecture->separate_blocks) return read_separate_blocks(keys, h);
    h.n_layer = h.n_block;
    for (int32_t layer = 0; layer < h.n_layer; layer++) h.blocks.push_back({.mixer = layer, .feed_forward = layer});
}

void read_attention_kinds(KeyReader& keys, Hparams& h) {
    read_windows(keys, h);
    read_shared_layers(keys, h);
}

void read_kv_heads(KeyReader& keys, Hparams& h) {
    const auto recurrence = h.architecture->recurrence;
    if (recurrence == Recurrence::short_convolution || recurrence == Recurrence::mamba2) {
        read_heads_of_blocks(keys, h);
    } else if (h.architecture->swa_heads) {
        return read_heads_by_kind(keys, h);
    } else {
        h.n_head_kv = keys.count_of_layers("attention.head_count_kv", h.n_block_all, 1, kMaxHeads, h.n_head);
    }
    h.swa_heads.n_head_kv = h.n_head_kv;
}

void read_recurrence(KeyReader& keys, Hparams& h) {
    if (h.architecture->recurrence != Recurrence::none)
        read_state_sizes(keys, h);
    else if (h.architecture->granite_scales)
        ignore_recurrence(keys);
    check_recurrent_layers(keys, h);
}

}  // namespace cake
