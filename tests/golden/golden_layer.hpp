#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cake/policy.hpp"
#include "golden/golden_file.hpp"
#include "method/attention_stats.hpp"

namespace cake::test {

/// Sizes of a case.
struct GoldenShape {
    explicit GoldenShape(const GoldenFile& file);

    int32_t n_head;
    int32_t n_head_kv;
    int32_t head_dim;
    int32_t n_tokens;
    int32_t window;  // 0 if the case has none
    int32_t n_keys;  // tokens outside the window
    int32_t n_group;
};

/// The part of `values`, [size, n], with index `i`.
template <typename T>
std::span<const T> part(std::span<const T> values, int32_t i, int32_t size) {
    return values.subspan(static_cast<size_t>(i) * static_cast<size_t>(size), static_cast<size_t>(size));
}

/// One layer of a case, prepared as the engine prepares a layer for a scorer.
class GoldenLayer {
  public:
    /// `suffix` of the layer's tensors: "" or ".0", ".1", ….
    GoldenLayer(const GoldenFile& file, const std::string& suffix, const Scorer& scorer);

    const GoldenShape& shape() const { return shape_; }
    std::span<const HeadKeys> heads() const { return heads_; }
    /// Input of the scorer for a KV head.
    ScorerInput input(int32_t head) const;
    /// Scores of the keys outside the window, one vector for each KV head.
    std::vector<std::vector<float>> scores() const;
    /// The causal attention of the window's queries in a query head, [n_tokens, window].
    std::span<const float> attention(int32_t head) const { return attention_[static_cast<size_t>(head)]; }
    /// Mean over the group of the L1 norm of each value after the output projection, [n_tokens].
    std::span<const float> output_norms(int32_t head) const { return norms_[static_cast<size_t>(head)]; }
    std::span<const float> reduced(int32_t head) const { return reduced_[static_cast<size_t>(head)]; }

    int32_t budget = 0;
    int32_t floor = 0;

  private:
    void attend(const GoldenFile& file, const std::string& suffix);
    void project(const GoldenFile& file, const std::string& suffix);

    GoldenShape shape_;
    const Scorer& scorer_;
    AttentionStats stats_;
    std::vector<int32_t> positions_;
    std::vector<std::vector<float>> attention_;  // [n_head]
    std::vector<std::vector<float>> reduced_;    // [n_head_kv]
    std::vector<std::vector<float>> norms_;      // [n_head_kv]
    std::vector<HeadKeys> heads_;
};

/// Mean over the group of the norms after the output projection `output`, [head_dim * n_head, n_embd].
std::vector<float> mean_output_norms(const GoldenShape& shape, std::span<const float> output, int32_t n_embd,
                                     std::span<const float> values, int32_t head_kv);
/// The norms of a single query head.
std::vector<float> output_norms_of(const GoldenShape& shape, std::span<const float> output, int32_t n_embd,
                                   std::span<const float> values, int32_t head, bool l1);

/// Expects numbers within 1e-4, relative to each number, and within 1e-6 of the largest one.
void expect_near(std::span<const float> actual, std::span<const float> expected, const std::string& what);
/// Expects that exactly the `kept` indices are marked in `mask`; those in `tied`, if there are any, may be others, but
/// as many.
void expect_kept(std::span<const int32_t> kept, std::span<const int32_t> mask, std::span<const int32_t> tied,
                 const std::string& what);
/// Expects that the marked tokens have equal scores.
void expect_tied(std::span<const float> scores, std::span<const int32_t> tied, const std::string& what);
void expect_equal(std::span<const int32_t> actual, std::span<const int32_t> expected, const std::string& what);

/// Scores with the window's infinity appended, as the selection takes them.
std::vector<std::vector<float>> with_window(std::vector<std::vector<float>> scores, int32_t n_tokens);
std::vector<std::span<const float>> views(const std::vector<std::vector<float>>& vectors);

// Each checks all numbers of a file.
void check_cake(const GoldenFile& file);
void check_criticalkv(const GoldenFile& file);
void check_defensivekv(const GoldenFile& file);
void check_dropkv(const GoldenFile& file);
void check_expected_attention(const GoldenFile& file);
void check_kvzip(const GoldenFile& file);
void check_lava(const GoldenFile& file);
void check_rkv(const GoldenFile& file);

}  // namespace cake::test
