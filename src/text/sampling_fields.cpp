#include "text/sampling_fields.hpp"

#include <array>

namespace cake {

namespace {

constexpr double kMany = 1 << 30;

constexpr std::array kFields{
    SamplingField{"temperature", "--temp", &SamplingOptions::temperature, 0, 100, "X",
                  "temperature; 0: always the most likely token"},
    SamplingField{"top_k", "--top-k", &SamplingOptions::top_k, -1, kMany, "K",
                  "sample only from the K most likely tokens; 0 or -1: all"},
    SamplingField{"top_p", "--top-p", &SamplingOptions::top_p, 0, 1, "P",
                  "sample only from the most likely tokens whose probabilities add up to P; 1: all"},
    SamplingField{"min_p", "--min-p", &SamplingOptions::min_p, 0, 1, "P",
                  "sample only from tokens at least P times as likely as the most likely one; 0: all"},
    SamplingField{"typical_p", "--typical", &SamplingOptions::typical_p, 0, 1, "P",
                  "locally typical sampling with probability P; 1: off"},
    SamplingField{"top_n_sigma", "--top-nsigma", &SamplingOptions::top_n_sigma, -1, 100, "X",
                  "sample only from tokens within X standard deviations of the largest logit; -1: off"},
    SamplingField{"xtc_probability", "--xtc-probability", &SamplingOptions::xtc_probability, 0, 1, "P",
                  "probability of excluding the most likely tokens but the last of them (XTC); 0: off"},
    SamplingField{"xtc_threshold", "--xtc-threshold", &SamplingOptions::xtc_threshold, 0, 1, "P",
                  "least probability of a token that XTC excludes; above 0.5: off"},
    SamplingField{"min_keep", "--min-keep", &SamplingOptions::min_keep, 0, kMany, "N",
                  "tokens that --top-p, --min-p, --typical and XTC keep at least"},
    SamplingField{"repeat_penalty", "--repeat-penalty", &SamplingOptions::repeat_penalty, 0.01, 100, "X",
                  "divides the logits of the last tokens, so that they repeat less; 1: off"},
    SamplingField{"repeat_last_n", "--repeat-last-n", &SamplingOptions::repeat_last_n, -1, kMany, "N",
                  "how many tokens --repeat-penalty looks back; 0: off, -1: all"},
    SamplingField{"frequency_penalty", "--frequency-penalty", &SamplingOptions::frequency_penalty, -2, 2, "X",
                  "subtracted from a token's logit for each time it was sampled; 0: off"},
    SamplingField{"presence_penalty", "--presence-penalty", &SamplingOptions::presence_penalty, -2, 2, "X",
                  "subtracted from a token's logit if it was sampled before; 0: off"},
    SamplingField{"dry_multiplier", "--dry-multiplier", &SamplingOptions::dry_multiplier, 0, 100, "X",
                  "penalty on continuing a repetition (DRY); 0: off"},
    SamplingField{"dry_base", "--dry-base", &SamplingOptions::dry_base, 1, 100, "X",
                  "growth of DRY's penalty with each repeated token"},
    SamplingField{"dry_allowed_length", "--dry-allowed-length", &SamplingOptions::dry_allowed_length, 0, kMany, "N",
                  "longest repetition, in tokens, without a penalty by DRY"},
    SamplingField{"dry_penalty_last_n", "--dry-penalty-last-n", &SamplingOptions::dry_penalty_last_n, -1, kMany, "N",
                  "how many tokens DRY looks back; 0: off, -1: all"},
    SamplingField{"dynatemp_range", "--dynatemp-range", &SamplingOptions::dynatemp_range, 0, 100, "X",
                  "vary the temperature by X with the entropy; 0: off"},
    SamplingField{"dynatemp_exponent", "--dynatemp-exp", &SamplingOptions::dynatemp_exponent, 0, 100, "X",
                  "how the entropy maps to a dynamic temperature"},
    SamplingField{"mirostat", "--mirostat", &SamplingOptions::mirostat, 0, 2, "N",
                  "1, 2: Mirostat and Mirostat 2.0 instead of the other samplers; 0: off"},
    SamplingField{"mirostat_tau", "--mirostat-ent", &SamplingOptions::mirostat_tau, 0, 100, "X",
                  "target entropy of Mirostat"},
    SamplingField{"mirostat_eta", "--mirostat-lr", &SamplingOptions::mirostat_eta, 0, 1, "X",
                  "learning rate of Mirostat"},
};

struct Step {
    SamplerStep step;
    std::string_view name;
    char letter;
};

constexpr std::array kSteps{
    Step{SamplerStep::penalties, "penalties", 'e'},
    Step{SamplerStep::dry, "dry", 'd'},
    Step{SamplerStep::top_n_sigma, "top_n_sigma", 's'},
    Step{SamplerStep::top_k, "top_k", 'k'},
    Step{SamplerStep::typical_p, "typ_p", 'y'},
    Step{SamplerStep::top_p, "top_p", 'p'},
    Step{SamplerStep::min_p, "min_p", 'm'},
    Step{SamplerStep::xtc, "xtc", 'x'},
    Step{SamplerStep::temperature, "temperature", 't'},
};

}  // namespace

std::span<const SamplingField> sampling_fields() {
    return kFields;
}

std::optional<SamplerStep> sampler_step_of(std::string_view name) {
    if (name == "typical_p") return SamplerStep::typical_p;
    for (const auto& step : kSteps)
        if (step.name == name) return step.step;
    return std::nullopt;
}

std::optional<SamplerStep> sampler_step_of(char letter) {
    for (const auto& step : kSteps)
        if (step.letter == letter) return step.step;
    return std::nullopt;
}

std::string sampler_step_names() {
    std::string names;
    for (const auto& step : kSteps) names += std::string(names.empty() ? "" : ", ") + std::string(step.name);
    return names;
}

}  // namespace cake
