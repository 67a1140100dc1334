#include "support/llama_reference.hpp"

#include <ggml-backend.h>
#include <llama-cpp.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace cake::test {

namespace {

/// A model and a context of its own on the CPU.
struct Llama {
    llama_model_ptr model;
    llama_context_ptr context;

    Llama(const std::string& path, uint32_t n_ctx, ggml_type cache_type) {
        ggml_backend_load_all();
        llama_model_params model_params = llama_model_default_params();
        model_params.n_gpu_layers = 0;
        model.reset(llama_model_load_from_file(path.c_str(), model_params));
        if (!model) throw std::runtime_error("llama.cpp cannot load " + path);
        llama_context_params params = llama_context_default_params();
        params.n_ctx = params.n_batch = n_ctx;
        params.n_ubatch = std::min(n_ctx, 512U);
        params.n_threads = params.n_threads_batch = 2;
        params.type_k = params.type_v = cache_type;
        // Its flash attention would make halves of them.
        if (cache_type == GGML_TYPE_F32) params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        context.reset(llama_init_from_model(model.get(), params));
        if (!context) throw std::runtime_error("llama.cpp cannot make a context for " + path);
    }

    size_t n_vocab() const { return static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model.get()))); }

    /// Logits after each token, [n_vocab, n].
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

}  // namespace

std::vector<float> llama_logits(const std::string& path, std::span<const int32_t> tokens, ggml_type cache_type) {
    return Llama(path, static_cast<uint32_t>(tokens.size()), cache_type).read(tokens, 0);
}

std::vector<float> llama_logits_without(const std::string& path, std::span<const int32_t> tokens, int32_t from,
                                        int32_t to, int32_t next) {
    Llama llama(path, static_cast<uint32_t>(tokens.size()) + 1, GGML_TYPE_F16);
    llama.read(tokens, 0);
    llama_memory_seq_rm(llama_get_memory(llama.context.get()), 0, from, to);
    return llama.read({&next, 1}, static_cast<int32_t>(tokens.size()));
}

namespace {

std::vector<double> log_probabilities(std::span<const float> logits) {
    const double largest = *std::ranges::max_element(logits);
    double sum = 0;
    for (const float x : logits) sum += std::exp(x - largest);
    std::vector<double> result;
    for (const float x : logits) result.push_back(x - largest - std::log(sum));
    return result;
}

}  // namespace

double mean_kl(std::span<const float> reference, std::span<const float> other, size_t n_vocab) {
    const size_t n = reference.size() / n_vocab;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const auto p = log_probabilities(reference.subspan(i * n_vocab, n_vocab));
        const auto q = log_probabilities(other.subspan(i * n_vocab, n_vocab));
        for (size_t v = 0; v < n_vocab; v++) sum += std::exp(p[v]) * (p[v] - q[v]);
    }
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
