#include "server/answer.hpp"

#include <algorithm>
#include <limits>
#include <random>
#include <span>
#include <utility>

#include "text/utf8.hpp"

namespace cake::server {

namespace {

double seconds(std::chrono::steady_clock::duration duration) {
    return std::chrono::duration<double>(duration).count();
}

size_t n_characters(std::string_view utf8) {
    return static_cast<size_t>(
        std::ranges::count_if(utf8, [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// An ID for a call. Templates of Mistral accept only those of nine letters and digits.
std::string new_call_id() {
    constexpr std::string_view kCharacters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    constexpr size_t kLength = 9;
    std::random_device random;
    std::uniform_int_distribution<size_t> any(0, kCharacters.size() - 1);
    std::string id(kLength, '0');
    for (char& c : id) c = kCharacters[any(random)];
    return id;
}

}  // namespace

Answer::Answer(const Engine& engine, CompletionRequest request, std::string model,
               std::vector<std::shared_ptr<Generation>> generations, Metrics& metrics, Time received)
    : engine_(engine),
      request_(std::move(request)),
      model_(std::move(model)),
      generations_(std::move(generations)),
      metrics_(metrics),
      received_(received),
      created_(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())) {
    for (size_t i = 0; i < n_choices() * request_.prompts.size(); i++) {
        readings_.push_back(
            {.text = AnswerText(request_.generation.stop), .reader = ReplyReader(request_.reply), .last = {}});
        choices_.emplace_back();
    }
}

void Answer::cancel() {
    for (const auto& generation : generations_) generation->cancel();
}

int64_t Answer::n_prompt() const {
    int64_t n = 0;
    for (const auto& prompt : request_.prompts) n += std::ssize(prompt.tokens);
    return n;
}

double Answer::prompt_seconds() const {
    return progress_.first ? seconds(*progress_.first - received_) : 0;
}

double Answer::drawing_seconds() const {
    return progress_.first ? seconds(progress_.last - *progress_.first) : 0;
}

bool Answer::wait(std::chrono::milliseconds most) {
    bool any = false;
    for (size_t prompt = 0; prompt < generations_.size(); prompt++) {
        if (has_ended(prompt)) continue;
        // Waits only for the first prompt that has no answer yet, and then takes what is there for the others.
        while (const auto event = generations_[prompt]->next(any ? std::chrono::milliseconds(0) : most)) {
            take(*event, prompt);
            any = true;
            if (has_ended(prompt)) break;
        }
        most = std::chrono::milliseconds(0);
    }
    return any;
}

bool Answer::has_ended(size_t prompt) const {
    return std::ranges::all_of(std::span(choices_).subspan(prompt * n_choices(), n_choices()),
                               [](const Choice& choice) { return choice.ending.has_value(); });
}

void Answer::take(const GenerationEvent& event, size_t prompt) {
    if (const auto* read = std::get_if<PromptRead>(&event.what))
        take(*read, prompt);
    else if (const auto* drawn = std::get_if<TokenDrawn>(&event.what))
        take(*drawn, event.when, prompt);
    else
        take(std::get<ChoiceEnded>(event.what), prompt);
}

void Answer::take(const PromptRead& read, size_t prompt) {
    progress_.n_cached += read.n_cached;
    metrics_.add_prompt(std::ssize(request_.prompts[prompt].tokens), read.n_cached);
    if (!request_.echo) return;
    for (size_t i = 0; i < n_choices(); i++)
        echo(request_.prompts[prompt], read.tokens, choices_[prompt * n_choices() + i]);
}

/// Begins an answer with the prompt. `tokens`: those of the prompt after the first, if they are reported.
void Answer::echo(const Prompt& prompt, const std::vector<TokenDrawn>& tokens, Choice& choice) const {
    const auto text = to_utf8(prompt.text);
    choice.content = text;
    choice.fresh.push_back({.text = text});
    if (!request_.generation.prompt_logprobs) return;
    // The model rates no first token, as nothing precedes it.
    choice.drawn.push_back({.token = prompt.tokens.front(), .logprob = std::numeric_limits<float>::quiet_NaN()});
    choice.drawn.append_range(tokens);
    size_t at = 0;  // in bytes
    size_t n = 0;   // in characters
    for (const auto& drawn : choice.drawn) {
        choice.offsets.push_back(n);
        const auto rest = std::string_view(prompt.text).substr(at);
        auto name = engine_.piece(drawn.token, true);
        // Some vocabularies add a space before the first word.
        if (at == 0 && name.starts_with(' ') && !rest.starts_with(' ')) name.erase(0, 1);
        const auto piece = rest.starts_with(name) ? name : engine_.piece(drawn.token);
        n += n_characters(rest.substr(0, piece.size()));
        at += std::min(piece.size(), rest.size());
    }
}

/// The text of a token. Names of control tokens are part of it only where they mark calls or reasoning.
std::string Answer::piece(const ReplyReader& reader, Token token) const {
    auto text = engine_.piece(token);
    if (!text.empty()) return text;
    auto name = engine_.piece(token, true);
    return reader.needs(name) ? name : text;
}

void Answer::take(const TokenDrawn& drawn, Time when, size_t prompt) {
    const auto index = prompt * n_choices() + static_cast<size_t>(drawn.choice);
    auto& choice = choices_[index];
    auto& reading = readings_[index];
    if (choice.ending) return;  // a stop string has ended it already
    if (reading.begun)
        metrics_.add_next_token(seconds(when - reading.last));
    else
        metrics_.add_first_token(seconds(when - received_));
    reading.begun = true;
    reading.last = when;
    progress_.n_drawn++;
    choice.n_drawn++;
    if (!progress_.first) progress_.first = when;
    progress_.last = when;
    if (request_.generation.n_logprobs >= 0 || request_.return_tokens) {
        choice.drawn.push_back(drawn);
        choice.offsets.push_back(n_characters(choice.content) + n_characters(reading.text.held()));
    }
    add(choice, reading.reader.add(reading.text.add(piece(reading.reader, drawn.token))));
    if (reading.text.stopped()) end(index, Ending::stop);  // the batcher will report the same
}

void Answer::take(const ChoiceEnded& ended, size_t prompt) {
    const auto index = prompt * n_choices() + static_cast<size_t>(ended.choice);
    if (choices_[index].ending) return;
    switch (ended.reason) {
        case FinishReason::length:
            return end(index, Ending::length);
        case FinishReason::end_of_generation:
            return end(index, Ending::stop);
        case FinishReason::cancelled:
            error_ = ApiError{.status = kUnavailable, .message = "the server is being stopped: try again later"};
            break;
        case FinishReason::failed:
            error_ = ApiError{.status = ended.error.code == Error::Code::invalid_argument ? kInvalid : kFailed,
                              .message = ended.error.message,
                              .param = ended.by_constraint ? "grammar" : ""};
            break;
    }
    cancel();
}

void Answer::end(size_t index, Ending ending) {
    auto& choice = choices_[index];
    auto& reading = readings_[index];
    add(choice, reading.reader.add(reading.text.finish()));
    add(choice, reading.reader.finish());
    if (reading.text.stopped()) choice.stopped_by = reading.text.stopped_by();
    choice.ending = ending == Ending::stop && !choice.calls.empty() ? Ending::tool_calls : ending;
}

void Answer::add(Choice& choice, std::vector<ReplyPart> parts) {
    for (auto& part : parts) {
        switch (part.kind) {
            case ReplyPart::Kind::content:
                choice.content += part.text;
                break;
            case ReplyPart::Kind::reasoning:
                choice.reasoning += part.text;
                break;
            case ReplyPart::Kind::call:
                if (part.call.id.empty()) part.call.id = new_call_id();
                choice.calls.push_back(part.call);
                break;
        }
        choice.fresh.push_back(std::move(part));
    }
}

std::vector<ReplyPart> Answer::take_fresh(size_t choice) {
    return std::exchange(choices_[choice].fresh, {});
}

bool Answer::is_done() const {
    return error_ || std::ranges::all_of(choices_, [](const Choice& choice) { return choice.ending.has_value(); });
}

}  // namespace cake::server
