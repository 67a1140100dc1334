#include "eval/runner.hpp"
#include "cake/policy.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>

#include "cake/token_stream.hpp"

namespace cake::eval {

namespace {

/// Subtask, length and depth of a row; kAllDepths in a row that averages over them.
using Cell = std::tuple<std::string, int64_t, double>;
constexpr double kAllDepths = -1;

/// Cells that a sample counts toward.
std::vector<Cell> cells_of(const Sample& sample) {
    std::vector<Cell> cells;
    const std::vector<std::string> one(1);
    for (const auto& subtask : sample.subtasks.empty() ? one : sample.subtasks) {
        cells.emplace_back(subtask, sample.length_tokens, kAllDepths);
        if (sample.depth >= 0) cells.emplace_back(subtask, sample.length_tokens, sample.depth);
    }
    return cells;
}

/// Cuts a prompt to `most` tokens by removing its middle, because instructions and question are at its beginning and
/// end. Returns whether it was too long.
bool cut_middle(std::vector<Token>& tokens, int64_t most) {
    const auto n = static_cast<int64_t>(tokens.size());
    if (n <= most) return false;
    const auto begin = tokens.begin() + most / 2;
    tokens.erase(begin, begin + (n - most));
    return true;
}

/// Whether two prompts have more than half of their text in common, so that it is worth prefilling it only once.
bool share_text(const Sample& a, const Sample& b) {
    const auto same = static_cast<size_t>(std::ranges::mismatch(a.prompt, b.prompt).in1 - a.prompt.begin());
    return same > std::max(a.prompt.size(), b.prompt.size()) / 2;
}

class Runner {
  public:
    Runner(const Engine& engine, std::span<const Sample> samples, std::span<const Setting> settings,
           const RunnerOptions& options)
        : engine_(engine), samples_(samples), settings_(settings), options_(options) {}

    Outcome run() {
        Outcome outcome;
        for (n_done_ = 0; n_done_ < samples_.size() && go_on();) {
            const auto asked = ask_group();
            if (stopped_) break;
            if (!asked) {
                outcome.error = asked.error();
                break;
            }
        }
        for (size_t s = 0; s < settings_.size(); s++) add_rows(s, outcome.rows);
        return outcome;
    }

  private:
    bool go_on() {
        stopped_ = stopped_ || (options_.progress && !options_.progress(n_done_, samples_.size()));
        return !stopped_;
    }

    /// Applies the model's chat template if the sample asks for it and the model has one.
    Result<std::vector<Token>> text_tokens(const Sample& sample) const {
        if (sample.chat) {
            const ChatMessage message{.role = "user", .content = sample.prompt};
            if (auto tokens = engine_.chat_tokens({&message, 1})) {
                const auto begun = TokenStream::whole(engine_, sample.answer_begin, true);
                if (!begun) return begun;
                tokens->append_range(*begun);
                return tokens;
            }
        }
        return engine_.tokenize(sample.prompt + sample.answer_begin);
    }

    /// Max tokens of a prompt; 0: no limit.
    int64_t max_prompt(const Sample& sample) const {
        return std::max<int64_t>(options_.max_context - sample.max_tokens, options_.max_context / 2);
    }

    Result<std::vector<Token>> prompt_tokens(const Sample& sample) {
        auto tokens = text_tokens(sample);
        if (!tokens) return tokens;
        const int64_t most = max_prompt(sample);
        if (most > 0 && cut_middle(*tokens, most) && options_.on_cut) options_.on_cut();
        return tokens;
    }

    /// Runs the next sample together with the following ones that share most of its prompt. The common part is
    /// prefilled once.
    Result<void> ask_group() {
        if (options_.blind) return ask_blindly();
        const auto whole = [](const Setting& setting) { return reads_whole_text(setting.options); };
        if (std::ranges::any_of(settings_, whole)) {
            const auto tokens = prompt_tokens(samples_[n_done_]);
            return tokens ? ask_alone(*tokens) : std::unexpected(tokens.error());
        }
        std::vector<std::vector<Token>> prompts;
        size_t n_common = 0;
        for (size_t i = n_done_; i < samples_.size() && share_text(samples_[n_done_], samples_[i]); i++) {
            auto tokens = prompt_tokens(samples_[i]);
            if (!tokens) return std::unexpected(tokens.error());
            if (!prompts.empty()) {
                const size_t n = n_shared(prompts.front(), *tokens);
                n_common = prompts.size() == 1 ? n : std::min(n_common, n);
            }
            prompts.push_back(std::move(*tokens));
        }
        if (n_common == 0) return ask_alone(prompts.front());
        return ask_branches(prompts, n_common);
    }

    /// A prompt for a blind question: the tokens that do not depend on it, and the rest. If they are too many, the text
    /// loses its middle.
    struct BlindPrompt {
        std::vector<Token> text;
        std::vector<Token> question;
    };
    Result<BlindPrompt> blind_prompt(const Sample& sample) {
        if (sample.question_begin == 0 || sample.question_begin >= sample.prompt.size())
            return fail("it is not known where the question of a sample begins, so it cannot be asked blindly");
        Sample other = sample;
        other.prompt.resize(sample.question_begin);
        other.prompt += sample.prompt[sample.question_begin] == '~' ? "^" : "~";
        auto tokens = text_tokens(sample);
        if (!tokens) return std::unexpected(tokens.error());
        const auto others = text_tokens(other);
        if (!others) return std::unexpected(others.error());
        const auto end = std::ranges::mismatch(*tokens, *others).in1;
        BlindPrompt prompt{.text = {tokens->begin(), end}, .question = {end, tokens->end()}};
        if (prompt.text.empty() || prompt.question.empty()) return fail("a sample has no text before its question");
        const int64_t most = max_prompt(sample) - std::ssize(prompt.question);
        if (options_.max_context > 0 && cut_middle(prompt.text, std::max<int64_t>(most, 2)) && options_.on_cut)
            options_.on_cut();
        return prompt;
    }

    /// Asks all questions about a text that was read, and evicted from, before they were known.
    Result<void> ask_blindly() {
        const auto first = blind_prompt(samples_[n_done_]);
        if (!first) return std::unexpected(first.error());
        constexpr int64_t kLongerQuestion = 64;  // allowance for further questions about the text
        const auto progress = [&](int64_t, int64_t) { return go_on(); };
        const auto texts = read_for_all(
            engine_, settings_, first->text,
            samples_[n_done_].max_tokens + 2 * std::ssize(first->question) + kLongerQuestion, n_done_, progress);
        if (!texts) return std::unexpected(texts.error());
        for (auto prompt = first; prompt && prompt->text == first->text; prompt = blind_prompt(samples_[n_done_])) {
            std::vector<Sequence> sequences;
            for (const auto& text : *texts) {
                auto copy = fork(text);
                if (!copy) return std::unexpected(copy.error());
                sequences.push_back(std::move(*copy));
                if (auto asked = sequences.back().append(prompt->question, {.progress = progress}); !asked)
                    return asked;
            }
            if (auto finished = finish(sequences); !finished || stopped_) return finished;
            if (n_done_ == samples_.size()) break;
        }
        return {};
    }

    /// Length of the common prefix of two prompts, without the last window of the shorter one: a branch must compute
    /// the queries of its window itself.
    size_t n_shared(std::span<const Token> a, std::span<const Token> b) const {
        const auto window = static_cast<size_t>(settings_.front().options.window);
        const auto same = static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
        const size_t shorter = std::min(a.size(), b.size());
        return std::min(same, shorter - std::min(shorter, window));
    }

    Result<void> ask_alone(std::span<const Token> prompt) {
        auto sequences = read_for_all(engine_, settings_, prompt, samples_[n_done_].max_tokens, n_done_,
                                      [&](int64_t, int64_t) { return go_on(); });
        if (!sequences) return std::unexpected(sequences.error());
        return finish(*sequences);
    }

    Result<void> ask_branches(std::span<const std::vector<Token>> prompts, size_t n_common) {
        const auto progress = [&](int64_t, int64_t) { return go_on(); };
        std::optional<Sequence> base;
        for (const auto& prompt : prompts) {
            auto sequences = open_all(engine_, settings_, static_cast<int64_t>(prompt.size()),
                                      samples_[n_done_].max_tokens, n_done_);
            if (!sequences) return std::unexpected(sequences.error());
            if (!base) {
                auto opened = branch_base(engine_, *sequences, static_cast<int64_t>(n_common));
                if (!opened) return std::unexpected(opened.error());
                base.emplace(std::move(*opened));
                const auto read = base->append(std::span(prompt).first(n_common), {.progress = progress});
                if (!read) return read;
            }
            if (auto read = branch_to_all(*base, *sequences, std::span(prompt).subspan(n_common), progress); !read)
                return read;
            if (auto finished = finish(*sequences); !finished || stopped_) return finished;
        }
        return {};
    }

    /// Generates the answers to the next sample and records their scores.
    Result<void> finish(std::vector<Sequence>& sequences) {
        const auto scores = ask(sequences, samples_[n_done_]);
        if (!scores) return std::unexpected(scores.error());
        if (!stopped_) count(samples_[n_done_++], *scores);
        return {};
    }

    /// Returns one score per setting.
    Result<std::vector<double>> ask(std::vector<Sequence>& sequences, const Sample& sample) {
        const auto predictions = answer(sequences, sample);
        if (!predictions) return std::unexpected(predictions.error());
        std::vector<double> scores;
        for (size_t s = 0; s < settings_.size(); s++) {
            const auto& prediction = (*predictions)[s];
            scores.push_back(sample.metric(prediction, sample));
            if (options_.on_answer && !stopped_) options_.on_answer(sample, settings_[s], prediction, scores.back());
        }
        return scores;
    }

    /// Decodes all sequences greedily in one batch. Each ends at the sample's token limit, at the end of generation, or
    /// when is_complete() holds.
    Result<std::vector<std::string>> answer(std::span<Sequence> sequences, const Sample& sample) {
        std::vector<std::string> texts(sequences.size());
        std::vector<size_t> open(sequences.size());
        std::iota(open.begin(), open.end(), size_t{0});
        for (int32_t n = 0; n < sample.max_tokens && !open.empty() && go_on(); n++) {
            std::vector<size_t> going_on;
            std::vector<Sequence*> batch;
            std::vector<Token> tokens;
            for (const size_t i : open) {
                const auto token = likeliest(sequences[i]);
                if (!token) return std::unexpected(token.error());
                if (engine_.is_end_of_generation(*token)) continue;
                texts[i] += engine_.piece(*token);
                if (is_complete(texts[i], sample)) continue;
                going_on.push_back(i);
                batch.push_back(&sequences[i]);
                tokens.push_back(*token);
            }
            open = std::move(going_on);
            if (open.empty() || n + 1 == sample.max_tokens) break;
            if (auto decoded = decode_each(batch, tokens); !decoded) return std::unexpected(decoded.error());
        }
        if (sample.first_line_only)
            for (auto& text : texts) text = first_line(text);
        return texts;
    }

    static bool is_complete(const std::string& text, const Sample& sample) {
        if (sample.first_line_only) return text.find_first_not_of('\n') != std::string::npos && text.ends_with('\n');
        return sample.ends_when_right && sample.metric(text, sample) == 1;
    }

    static std::string first_line(std::string text) {
        text.erase(0, std::min(text.find_first_not_of('\n'), text.size()));
        text.erase(std::min(text.find('\n'), text.size()));
        return text;
    }

    Result<Token> likeliest(const Sequence& sequence) const {
        const auto n_vocab = static_cast<size_t>(engine_.info().n_vocab);
        const auto logits = sequence.logits().last(n_vocab);
        if (std::ranges::count_if(logits, [](float x) { return !std::isfinite(x); }) > 0)
            return fail(Error::Code::corrupt,
                        engine_.info().path + ": the model computed numbers that are not finite: the model is damaged");
        return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
    }

    void count(const Sample& sample, const std::vector<double>& scores) {
        for (const auto& cell : cells_of(sample)) {
            if (!std::ranges::contains(cells_, cell)) cells_.push_back(cell);
            for (size_t s = 0; s < scores.size(); s++) scores_[{cell, s}].push_back(scores[s]);
        }
    }

    void add_rows(size_t setting, std::vector<Row>& rows) {
        std::map<int64_t, std::vector<Row>> pooled;  // rows over all depths, by length
        for (const auto& cell : cells_) {
            const auto& values = scores_[{cell, setting}];
            rows.push_back({.policy = settings_[setting].policy,
                            .budget = settings_[setting].budget,
                            .subtask = std::get<0>(cell),
                            .length_tokens = std::get<1>(cell),
                            .depth = std::get<2>(cell),
                            .n_samples = values.size(),
                            .figures = {{.name = "score", .value = mean(values), .interval = confidence(values)}}});
            if (rows.back().depth == kAllDepths) pooled[rows.back().length_tokens].push_back(rows.back());
        }
        if (!options_.average) return;
        for (const auto& [length, parts] : pooled) {
            if (parts.size() > 1) rows.push_back(average(parts));
        }
    }

    /// Mean over the subtasks with equal weights. The interval assumes that the subtasks are independent.
    static Row average(const std::vector<Row>& parts) {
        Row row = parts.front();
        row.subtask = "average";
        row.n_samples = 0;
        double value = 0;
        double square = 0;
        for (const auto& part : parts) {
            const Figure& figure = part.figures.front();
            const auto n = static_cast<double>(parts.size());
            const Interval interval = figure.interval.value_or(Interval{figure.value, figure.value});
            value += figure.value / n;
            square += std::pow((interval.high - interval.low) / 2 / n, 2);
            row.n_samples += part.n_samples;
        }
        const double half = std::sqrt(square);
        row.figures = {{.name = "score",
                        .value = value,
                        .interval = Interval{std::max(value - half, 0.0), std::min(value + half, 1.0)}}};
        return row;
    }

    const Engine& engine_;
    std::span<const Sample> samples_;
    std::span<const Setting> settings_;
    const RunnerOptions& options_;
    size_t n_done_ = 0;
    bool stopped_ = false;
    std::vector<Cell> cells_;  // cells in order of first occurrence
    std::map<std::pair<Cell, size_t>, std::vector<double>> scores_;
};

}  // namespace

std::vector<Setting> all_settings(std::span<const std::string> policies, std::span<const int64_t> budgets,
                                  const SequenceOptions& common) {
    std::vector<Setting> settings;
    for (const auto& policy : policies) {
        Setting setting{.policy = policy, .budget = 0, .options = common};
        setting.options.policy = policy;
        if (policy == kFullPolicy) {
            settings.push_back(setting);
            continue;
        }
        for (const int64_t budget : budgets) {
            setting.budget = budget;
            setting.options.budget = TokensPerLayer{budget};
            settings.push_back(setting);
        }
    }
    return settings;
}

Result<std::vector<Sequence>> open_all(const Engine& engine, std::span<const Setting> settings, int64_t n_tokens,
                                       int64_t max_more_tokens, size_t number) {
    constexpr uint64_t kStride = 0x9E3779B97F4A7C15;
    std::vector<Sequence> sequences;
    for (const auto& setting : settings) {
        SequenceOptions options = setting.options;
        options.seed += kStride * number;
        if (setting.budget == 0) options.max_tokens = n_tokens + max_more_tokens;
        auto sequence = engine.sequence(options);
        if (!sequence) return fail(sequence.error().code, setting.policy + ": " + sequence.error().message);
        sequences.push_back(std::move(*sequence));
    }
    return sequences;
}

Result<std::vector<Sequence>> read_for_all(const Engine& engine, std::span<const Setting> settings,
                                           std::span<const Token> tokens, int64_t max_more_tokens, size_t number,
                                           const ProgressFunction& progress) {
    auto opened = open_all(engine, settings, static_cast<int64_t>(tokens.size()), max_more_tokens, number);
    if (!opened) return opened;
    auto& sequences = *opened;
    if (auto read = append_to_all(sequences, tokens, {.progress = progress}); !read)
        return std::unexpected(read.error());
    return opened;
}

Outcome run_samples(const Engine& engine, std::span<const Sample> samples, std::span<const Setting> settings,
                    const RunnerOptions& options) {
    return Runner(engine, samples, settings, options).run();
}

}  // namespace cake::eval
