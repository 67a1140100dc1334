#include "eval/answers.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cake::eval {

namespace {

bool is_complete(const std::string& text, const Sample& sample) {
    if (sample.first_line_only) return text.find_first_not_of('\n') != std::string::npos && text.ends_with('\n');
    return sample.ends_when_right && sample.metric(text, sample) == 1;
}

std::string first_line(std::string text) {
    text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
    text.erase(std::min(text.find('\n'), text.size()));
    return text;
}

Result<Token> likeliest(const Engine& engine, const Sequence& sequence) {
    const auto n_vocab = static_cast<size_t>(engine.info().n_vocab);
    const auto logits = sequence.logits().last(n_vocab);
    if (std::ranges::any_of(logits, [](float x) { return !std::isfinite(x); }))
        return fail(Error::Code::corrupt,
                    engine.info().path + ": the model computed numbers that are not finite: the model is damaged");
    return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace

Result<void> write_answers(const Engine& engine, std::span<Answer> answers, const std::function<bool()>& go_on) {
    const auto end = [](Answer& answer) {
        answer.is_whole = true;
        if (answer.sample->first_line_only) answer.text = first_line(answer.text);
    };
    std::vector<Answer*> open;
    for (auto& answer : answers) {
        if (answer.sample->max_tokens > 0)
            open.push_back(&answer);
        else
            end(answer);
    }
    for (int32_t n = 1; !open.empty() && go_on(); n++) {
        std::vector<Answer*> going_on;
        std::vector<Sequence*> batch;
        std::vector<Token> tokens;
        for (Answer* answer : open) {
            const auto token = likeliest(engine, *answer->sequence);
            if (!token) return std::unexpected(token.error());
            const bool is_end = engine.is_end_of_generation(*token);
            if (!is_end) answer->text += engine.piece(*token);
            if (is_end || n == answer->sample->max_tokens || is_complete(answer->text, *answer->sample)) {
                end(*answer);
                continue;
            }
            going_on.push_back(answer);
            batch.push_back(answer->sequence);
            tokens.push_back(*token);
        }
        open = std::move(going_on);
        if (open.empty()) break;
        if (auto decoded = decode_each(batch, tokens); !decoded) return decoded;
    }
    return {};
}

}  // namespace cake::eval
