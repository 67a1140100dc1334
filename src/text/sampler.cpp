#include "text/sampler.hpp"

#include <llama.h>

namespace cake {

Sampler::Sampler(const SamplingOptions& options)
    : chain_(llama_sampler_chain_init(llama_sampler_chain_default_params())) {
    const auto add = [this](llama_sampler* sampler) { llama_sampler_chain_add(chain_.get(), sampler); };
    if (options.temperature <= 0) {
        add(llama_sampler_init_greedy());
        return;
    }
    add(llama_sampler_init_top_k(options.top_k));
    add(llama_sampler_init_top_p(options.top_p, 1));
    add(llama_sampler_init_min_p(options.min_p, 1));
    add(llama_sampler_init_temp(options.temperature));
    add(llama_sampler_init_dist(options.seed));
}

int32_t Sampler::sample(std::span<const float> logits) {
    candidates_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); i++) {
        candidates_[i] = {.id = static_cast<llama_token>(i), .logit = logits[i], .p = 0};
    }
    llama_token_data_array array{
        .data = candidates_.data(), .size = candidates_.size(), .selected = -1, .sorted = false};
    llama_sampler_apply(chain_.get(), &array);
    const int32_t token = array.selected >= 0 ? array.data[array.selected].id : array.data[0].id;
    llama_sampler_accept(chain_.get(), token);
    return token;
}

}  // namespace cake
