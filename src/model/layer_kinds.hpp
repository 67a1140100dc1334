#pragma once

#include <cstdint>

#include "model/hparams.hpp"
#include "model/key_reader.hpp"

namespace cake {

constexpr uint32_t kMaxWidth = 1U << 20U;
constexpr uint32_t kMaxTokens = 1U << 30U;
constexpr uint32_t kMaxHeads = 65536;

/// Reads in which blocks of the file the layers are.
void read_blocks(KeyReader& keys, Hparams& h);

/// Reads which layers attend to the whole text, which have a sliding window, and which share K and V.
void read_attention_kinds(KeyReader& keys, Hparams& h);

/// Reads the number of KV heads, for each kind of layer.
void read_kv_heads(KeyReader& keys, Hparams& h);

/// Reads which layers are recurrent, and the sizes of their states.
void read_recurrence(KeyReader& keys, Hparams& h);

}  // namespace cake
