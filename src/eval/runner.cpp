#include "eval/runner.hpp"

#include <algorithm>
#include <optional>
#include <ranges>
#include <set>

#include "cake/policy.hpp"
#include "cake/token_stream.hpp"
#include "eval/answers.hpp"
#include "eval/score_table.hpp"

namespace cake::eval {

namespace {

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
        outcome.rows = scores_.rows(settings_, options_.average);
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

    /// The prompt of a sample. If it has too many tokens, it loses its middle.
    Result<std::vector<Token>> prompt_tokens(size_t number) {
        const Sample& sample = samples_[number];
        auto tokens = text_tokens(sample);
        if (!tokens) return tokens;
        const int64_t most = max_prompt(sample);
        if (most > 0 && cut_middle(*tokens, most)) tell_of_cut(number);
        return tokens;
    }

    /// A prompt is made several times, but told of once.
    void tell_of_cut(size_t number) {
        if (!cut_.insert(number).second) return;
        if (options_.on_cut) options_.on_cut();
    }

    /// Runs the next sample together with the following ones that share most of its prompt. The common part is
    /// prefilled once.
    Result<void> ask_group() {
        if (options_.blind || options_.decode) return ask_blindly();
        const auto whole = [](const Setting& setting) { return reads_whole_text(setting.options); };
        if (std::ranges::any_of(settings_, whole)) {
            const auto tokens = prompt_tokens(n_done_);
            return tokens ? ask_alone(*tokens) : std::unexpected(tokens.error());
        }
        std::vector<std::vector<Token>> prompts;
        size_t n_common = 0;
        for (size_t i = n_done_; i < samples_.size() && share_text(samples_[n_done_], samples_[i]); i++) {
            auto tokens = prompt_tokens(i);
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
    Result<BlindPrompt> blind_prompt(size_t number) {
        const Sample& sample = samples_[number];
        if (sample.question_begin == 0 || sample.question_begin >= sample.prompt.size())
            return fail("it is not known where the question of a sample begins, so the text cannot be read without it");
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
        if (options_.max_context > 0 && cut_middle(prompt.text, std::max<int64_t>(most, 2))) tell_of_cut(number);
        return prompt;
    }

    /// Asks all questions about a text that was read or decoded, and evicted from, before they were known.
    Result<void> ask_blindly() {
        const auto first = blind_prompt(n_done_);
        if (!first) return std::unexpected(first.error());
        constexpr int64_t kLongerQuestion = 64;  // allowance for further questions about the text
        const int64_t more = samples_[n_done_].max_tokens + 2 * std::ssize(first->question) + kLongerQuestion;
        const auto texts = options_.decode ? decode_for_all(first->text, more)
                                           : read_for_all(engine_, settings_, first->text, more, n_done_, progress());
        if (!texts || stopped_) return texts ? Result<void>() : std::unexpected(texts.error());
        const size_t most = n_together(*texts);
        for (auto prompts = next_about(first->text, most); !prompts.empty(); prompts = next_about(first->text, most)) {
            std::vector<std::vector<Sequence>> asked;
            Result<void> done;
            for (const auto& prompt : prompts) {
                auto copies = copies_of(*texts);
                if (!copies && !asked.empty()) break;  // there may be memory for fewer
                if (!copies) return std::unexpected(copies.error());
                done = options_.decode ? decode(*copies, prompt.question) : read(*copies, prompt.question);
                if (!done || stopped_) break;
                asked.push_back(std::move(*copies));
            }
            if (auto finished = finish(asked); !finished || stopped_) return finished;
            if (!done) return done;
        }
        return {};
    }

    /// The prompts of the next samples, at most `most`, as long as they are about this text.
    std::vector<BlindPrompt> next_about(std::span<const Token> text, size_t most) {
        std::vector<BlindPrompt> prompts;
        while (prompts.size() < most && n_done_ + prompts.size() < samples_.size()) {
            auto prompt = blind_prompt(n_done_ + prompts.size());
            if (!prompt || !std::ranges::equal(prompt->text, text)) break;
            prompts.push_back(std::move(*prompt));
        }
        return prompts;
    }

    /// Number of questions about these texts that are answered in one batch. Each takes a copy of every text.
    static size_t n_together(std::span<const Sequence> texts) {
        constexpr uint64_t kMaxSequences = 16;
        constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
        uint64_t bytes = 1;
        for (const auto& text : texts) bytes += text.memory().kv_bytes_allocated;
        return std::max<size_t>(1, std::min(kMaxSequences / texts.size(), kMaxBytes / bytes));
    }

    static Result<std::vector<Sequence>> copies_of(std::span<const Sequence> texts) {
        std::vector<Sequence> copies;
        for (const auto& text : texts) {
            auto copy = fork(text);
            if (!copy) return std::unexpected(copy.error());
            copies.push_back(std::move(*copy));
        }
        return copies;
    }

    ProgressFunction progress() {
        return [this](int64_t, int64_t) { return go_on(); };
    }

    Result<void> read(std::span<Sequence> sequences, std::span<const Token> tokens) {
        for (auto& sequence : sequences)
            if (auto done = sequence.append(tokens, {.progress = progress()}); !done) return done;
        return {};
    }

    /// Decodes the same tokens into all sequences, one after another.
    Result<void> decode(std::span<Sequence> sequences, std::span<const Token> tokens) {
        std::vector<Sequence*> batch;
        for (auto& sequence : sequences) batch.push_back(&sequence);
        for (const Token token : tokens) {
            if (!go_on()) break;
            if (auto done = decode_each(batch, std::vector<Token>(batch.size(), token)); !done) return done;
        }
        return {};
    }

    /// Creates a sequence for each setting, and decodes the text into it, but for a prompt of one window.
    Result<std::vector<Sequence>> decode_for_all(std::span<const Token> text, int64_t max_more_tokens) {
        const size_t n_prompt = std::min(static_cast<size_t>(settings_.front().options.window), text.size());
        auto sequences =
            read_for_all(engine_, settings_, text.first(n_prompt),
                         std::ssize(text) - static_cast<int64_t>(n_prompt) + max_more_tokens, n_done_, progress());
        if (!sequences) return sequences;
        if (auto done = decode(*sequences, text.subspan(n_prompt)); !done) return std::unexpected(done.error());
        return sequences;
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
        auto sequences = read_for_all(engine_, settings_, prompt, samples_[n_done_].max_tokens, n_done_, progress());
        if (!sequences) return std::unexpected(sequences.error());
        return finish({&*sequences, 1});
    }

    Result<void> ask_branches(std::span<const std::vector<Token>> prompts, size_t n_common) {
        std::optional<Sequence> base;
        for (const auto& prompt : prompts) {
            auto sequences = open_all(engine_, settings_, static_cast<int64_t>(prompt.size()),
                                      samples_[n_done_].max_tokens, n_done_);
            if (!sequences) return std::unexpected(sequences.error());
            if (!base) {
                auto opened = branch_base(engine_, *sequences, static_cast<int64_t>(n_common));
                if (!opened) return std::unexpected(opened.error());
                base.emplace(std::move(*opened));
                const auto read = base->append(std::span(prompt).first(n_common), {.progress = progress()});
                if (!read) return read;
            }
            if (auto read = branch_to_all(*base, *sequences, std::span(prompt).subspan(n_common), progress()); !read)
                return read;
            if (auto finished = finish({&*sequences, 1}); !finished || stopped_) return finished;
        }
        return {};
    }

    /// Generates the answers to the next samples and records their scores. `asked` has the sequences of each of these
    /// samples, which have read its prompt, in the order of the settings. If this is stopped or fails, the samples
    /// before the first one without all of its answers are recorded.
    Result<void> finish(std::span<std::vector<Sequence>> asked) {
        std::vector<Answer> answers;
        for (size_t i = 0; i < asked.size(); i++)
            for (auto& sequence : asked[i]) answers.push_back({&samples_[n_done_ + i], &sequence});
        const auto done = write_answers(engine_, answers, [this] { return go_on(); });
        for (auto rest = std::span<const Answer>(answers); !rest.empty(); rest = rest.subspan(settings_.size())) {
            const auto of_sample = rest.first(settings_.size());
            if (!std::ranges::all_of(of_sample, &Answer::is_whole)) break;
            record(of_sample);
        }
        return done;
    }

    /// Records the scores of the next sample.
    void record(std::span<const Answer> answers) {
        const Sample& sample = samples_[n_done_];
        std::vector<double> scores;
        for (const auto& [setting, answer] : std::views::zip(settings_, answers)) {
            scores.push_back(sample.metric(answer.text, sample));
            if (options_.on_answer) options_.on_answer(sample, setting, answer.text, scores.back());
        }
        scores_.add(sample, scores);
        n_done_++;
    }

    const Engine& engine_;
    std::span<const Sample> samples_;
    std::span<const Setting> settings_;
    const RunnerOptions& options_;
    size_t n_done_ = 0;
    std::set<size_t> cut_;  // numbers of the samples whose prompts have lost their middle
    bool stopped_ = false;
    ScoreTable scores_;
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
