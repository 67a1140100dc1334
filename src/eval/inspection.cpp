#include "eval/inspection.hpp"

#include <algorithm>

namespace cake::eval {

namespace {

/// Max number of points of the memory curve. The prefill of a long text reports progress far more often.
constexpr size_t kMaxMoments = 1500;

void thin_out(std::vector<MemoryMoment>& moments) {
    if (moments.size() < 2 * kMaxMoments) return;
    // Of each pair of neighbours, keep the one with more memory, so that no peak is lost.
    std::vector<MemoryMoment> half;
    for (size_t i = 0; i + 1 < moments.size(); i += 2)
        half.push_back(moments[i].held_bytes >= moments[i + 1].held_bytes ? moments[i] : moments[i + 1]);
    moments = std::move(half);
}

}  // namespace

Result<Inspection> inspect(const Engine& engine, const SequenceOptions& sequence_options, std::span<const Token> tokens,
                           const InspectionOptions& options) {
    Inspection result;
    result.policy = sequence_options.policy;
    result.options = sequence_options;
    result.options.analyse = true;
    auto sequence = engine.sequence(result.options);
    if (!sequence) return std::unexpected(sequence.error());
    const auto token_bytes = engine.kv_token_bytes(result.options.cache_type_k, result.options.cache_type_v);
    if (!token_bytes) return std::unexpected(token_bytes.error());

    const auto note = [&](int64_t n_tokens) {
        const auto memory = sequence->memory();
        const uint64_t staging = memory.kv_bytes_allocated - memory.kv_bytes_budget;
        result.moments.push_back({.tokens = static_cast<double>(n_tokens),
                                  .held_bytes = memory.kv_bytes_now + staging,
                                  .full_bytes = engine.kv_bytes(*token_bytes, n_tokens, n_tokens)});
        thin_out(result.moments);
    };
    const auto read = sequence->append(tokens, {.progress =
                                                    [&](int64_t done, int64_t total) {
                                                        note(done);
                                                        return !options.progress || options.progress(done, total);
                                                    },
                                                .segment = options.segment});
    if (!read) return std::unexpected(read.error());
    result.stages = sequence->stages();
    result.layers = sequence->layers();
    for (int32_t layer = 0; layer < engine.info().n_layer; layer++) {
        auto& heads = result.held.emplace_back();
        for (int32_t head = 0; head < result.layers[static_cast<size_t>(layer)].n_head_kv; head++) {
            const auto positions = sequence->positions(layer, head);
            heads.emplace_back(positions.begin(), positions.end());
        }
    }
    for (const Token token : sequence->generate(
             {.max_tokens = options.n_predict, .sampling = {.temperature = 0}, .cancelled = options.cancelled})) {
        result.answer += engine.piece(token);
        note(sequence->n_tokens());
    }
    if (sequence->finish_reason() == FinishReason::cancelled) return fail(Error::Code::cancelled, "cancelled");
    if (sequence->finish_reason() == FinishReason::failed) return std::unexpected(sequence->error());
    result.memory = sequence->memory();
    return result;
}

}  // namespace cake::eval
