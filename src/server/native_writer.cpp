#include <algorithm>
#include <string_view>

#include "server/answer_writer.hpp"
#include "server/logprobs.hpp"
#include "server/properties.hpp"
#include "text/json_text.hpp"

namespace cake::server {

namespace {

const char* stop_type(const Choice& choice) {
    if (!choice.ending) return "none";
    if (!choice.stopped_by.empty()) return "word";
    return *choice.ending == Ending::length ? "limit" : "eos";
}

/// llama.cpp's own format: each choice is an object, and so is each event of a stream.
class NativeWriter final : public AnswerWriter {
  public:
    Json whole(const Answer& answer) override {
        auto all = Json::array();
        for (size_t i = 0; i < answer.choices().size(); i++) {
            const auto& choice = answer.choices()[i];
            Json written = part(answer, i, choice.content, 0);
            written.update(ending(answer, i));
            all.push_back(std::move(written));
        }
        return all.size() == 1 ? std::move(all[0]) : std::move(all);
    }

    std::string opening(const Answer& /*answer*/) override { return {}; }

    std::string news(Answer& answer) override {
        std::string events;
        sent_.resize(answer.choices().size());
        for (size_t i = 0; i < answer.choices().size(); i++) {
            const auto& choice = answer.choices()[i];
            auto& sent = sent_[i];
            std::string text;
            for (const auto& fresh : answer.take_fresh(i)) text += fresh.text;
            const bool finishes = choice.ending && !sent.ending;
            if (text.empty() && sent.n_drawn == choice.drawn.size() && !finishes) continue;
            Json written = part(answer, i, text, sent.n_drawn);
            if (finishes) written.update(ending(answer, i));
            if (!finishes && answer.request().timings_per_token) written["timings"] = timings_of(answer);
            events += event(json_text(written));
            sent = {.n_drawn = choice.drawn.size(), .ending = sent.ending || finishes};
        }
        return events;
    }

    std::string keep_alive(const Answer& answer) override {
        const size_t nothing_after = answer.choices().front().drawn.size();
        return event(json_text(part(answer, 0, "", nothing_after)));
    }

    std::string closing(const Answer& /*answer*/) override { return {}; }

    std::string failure(const ApiError& error) override { return event(to_json(error)); }

  private:
    struct Sent {
        size_t n_drawn = 0;
        bool ending = false;
    };

    static const Prompt& prompt_of(const Answer& answer, size_t choice) {
        return answer.request().prompts[choice / static_cast<size_t>(answer.request().generation.n_choices)];
    }

    static Json part(const Answer& answer, size_t i, const std::string& text, size_t first) {
        const auto& choice = answer.choices()[i];
        const auto& request = answer.request();
        auto tokens = Json::array();
        if (request.return_tokens)
            for (size_t t = first; t < choice.drawn.size(); t++) tokens.push_back(choice.drawn[t].token);
        Json written{{"index", i},
                     {"content", text},
                     {"tokens", std::move(tokens)},
                     {"id_slot", 0},
                     {"stop", false},
                     {"tokens_predicted", choice.n_drawn},
                     {"tokens_evaluated", prompt_of(answer, i).tokens.size()}};
        if (request.generation.n_logprobs >= 0)
            written["completion_probabilities"] = native_logprobs(answer, choice, first);
        return written;
    }

    static Json ending(const Answer& answer, size_t i) {
        const auto& choice = answer.choices()[i];
        const auto n_held = static_cast<int64_t>(prompt_of(answer, i).tokens.size()) + choice.n_drawn;
        return {{"stop", true},
                {"model", answer.model()},
                {"generation_settings", sampling_json(answer.request().generation)},
                {"has_new_line", choice.content.contains('\n')},
                {"truncated", false},
                {"stop_type", stop_type(choice)},
                {"stopping_word", choice.stopped_by},
                {"tokens_cached", n_held},
                {"timings", timings_of(answer)}};
    }

    std::vector<Sent> sent_;  // for each choice
};

}  // namespace

std::unique_ptr<AnswerWriter> make_native_writer() {
    return std::make_unique<NativeWriter>();
}

}  // namespace cake::server
