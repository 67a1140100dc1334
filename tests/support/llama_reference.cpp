#include "support/llama_reference.hpp"

#include <ggml-backend.h>
#include <llama-cpp.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace cake::test {

/// A llama.cpp model with its own context.
struct LlamaReader::Llama {
    llama_model_ptr model;
    llama_context_ptr context;

    Llama(const std::string& path, uint32_t n_ctx, const ReferenceOptions& options) {
        ggml_backend_load_all();
        llama_model_params model_params = llama_model_default_params();
        model_params.n_gpu_layers = 0;
        model_params.use_extra_bufts = options.repack;
        model.reset(llama_model_load_from_file(path.c_str(), model_params));
        if (!model) throw std::runtime_error("llama.cpp cannot load " + path);
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = n_ctx;
        params.n_ubatch = std::min(n_ctx, 512U);
        params.n_threads = params.n_threads_batch = 2;
        params.type_k = params.type_v = options.cache_type;
        // llama.cpp's flash attention would convert f32 K/V to half precision.
        if (options.cache_type == GGML_TYPE_F32) params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        context.reset(llama_init_from_model(model.get(), params));
        if (!context) throw std::runtime_error("llama.cpp cannot make a context for " + path);
    }

    size_t n_vocab() const { return static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model.get()))); }

    /// Returns the logits after each token, [n_vocab, n].
    std::vector<float> read(std::span<const int32_t> tokens, int32_t first_position) {
        llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
        batch.n_tokens = static_cast<int32_t>(tokens.size());
        for (size_t i = 0; i < tokens.size(); i++) {
            batch.token[i] = tokens[i];
            batch.pos[i] = first_position + static_cast<llama_pos>(i);
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        const int status = llama_decode(context.get(), batch);
        llama_batch_free(batch);
        if (status != 0) throw std::runtime_error("llama.cpp cannot compute");
        const float* logits = llama_get_logits(context.get());
        return {logits, logits + n_vocab() * tokens.size()};
    }
};

LlamaReader::LlamaReader(const std::string& model, size_t n_ctx, const ReferenceOptions& options)
    : llama_(std::make_unique<Llama>(model, static_cast<uint32_t>(n_ctx), options)) {}
LlamaReader::LlamaReader(LlamaReader&&) noexcept = default;
LlamaReader::~LlamaReader() = default;

std::vector<float> LlamaReader::read(std::span<const int32_t> tokens) {
    auto logits = llama_->read(tokens, n_read_);
    n_read_ += static_cast<int32_t>(tokens.size());
    return logits;
}

void LlamaReader::drop(int32_t from, int32_t to) {
    llama_memory_seq_rm(llama_get_memory(llama_->context.get()), 0, from, to);
}

std::vector<float> llama_logits(const std::string& model, std::span<const int32_t> tokens,
                                const ReferenceOptions& options) {
    return LlamaReader(model, tokens.size(), options).read(tokens);
}

std::vector<float> llama_logits_without(const std::string& model, std::span<const int32_t> tokens, int32_t from,
                                        int32_t to, int32_t next) {
    LlamaReader reader(model, tokens.size() + 1, {});
    reader.read(tokens);
    reader.drop(from, to);
    return reader.read({&next, 1});
}

double kl(std::span<const float> reference, std::span<const float> other) {
    const double largest = std::ranges::max(reference);
    const double largest_other = std::ranges::max(other);
    double sum = 0;
    double sum_other = 0;
    double differences = 0;
    for (size_t v = 0; v < reference.size(); v++) {
        const double weight = std::exp(reference[v] - largest);
        sum += weight;
        sum_other += std::exp(other[v] - largest_other);
        differences += weight * (static_cast<double>(reference[v]) - static_cast<double>(other[v]));
    }
    return differences / sum - (largest + std::log(sum)) + (largest_other + std::log(sum_other));
}

double mean_kl(std::span<const float> reference, std::span<const float> other, size_t n_vocab) {
    const size_t n = reference.size() / n_vocab;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += kl(reference.subspan(i * n_vocab, n_vocab), other.subspan(i * n_vocab, n_vocab));
    return sum / static_cast<double>(n);
}

double greedy_regret(std::span<const float> reference, std::span<const float> other, size_t n_vocab) {
    double largest = 0;
    for (size_t begin = 0; begin + n_vocab <= reference.size(); begin += n_vocab) {
        const auto row = reference.subspan(begin, n_vocab);
        const auto choice =
            std::ranges::max_element(other.subspan(begin, n_vocab)) - other.subspan(begin, n_vocab).begin();
        largest = std::max<double>(largest, *std::ranges::max_element(row) - row[static_cast<size_t>(choice)]);
    }
    return largest;
}

}  // namespace cake::test
