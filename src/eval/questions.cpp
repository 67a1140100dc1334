#include "eval/questions.hpp"

#include <algorithm>
#include <random>
#include <utility>

namespace cake::eval {

namespace {

void replace_all(std::string& text, size_t begin, const std::string& from, const std::string& to) {
    for (size_t at = text.find(from, begin); at != std::string::npos; at = text.find(from, at + to.size()))
        text.replace(at, from.size(), to);
}

/// Byte offset at which the facts of a prompt end, so that the rest contains its question.
size_t question_begin(const Sample& sample) {
    size_t end = 0;
    for (const auto& fact : sample.facts) {
        const size_t at = sample.prompt.rfind(fact.value);
        if (at != std::string::npos) end = std::max(end, at + fact.value.size());
    }
    return end;
}

Sample asked_for(const Sample& sample, const Fact& fact) {
    Sample other = sample;
    other.asked = fact.key;
    other.answers = {fact.value};
    replace_all(other.prompt, question_begin(sample), sample.asked, fact.key);
    replace_all(other.answer_begin, 0, sample.asked, fact.key);
    return other;
}

}  // namespace

std::vector<Fact> facts_in(const std::string& prompt, const std::regex& pattern) {
    std::vector<Fact> facts;
    for (std::sregex_iterator found(prompt.begin(), prompt.end(), pattern), end; found != end; ++found)
        facts.push_back({.key = (*found)[1], .value = (*found)[2]});
    return facts;
}

void state_facts(Sample& sample, std::vector<Fact> facts) {
    if (sample.answers.empty()) return;
    const auto asked = std::ranges::find(facts, sample.answers.front(), &Fact::value);
    if (asked == facts.end()) return;
    sample.asked = asked->key;
    sample.facts = std::move(facts);
    if (sample.question_begin == 0) sample.question_begin = question_begin(sample);
}

std::vector<Sample> with_more_questions(std::vector<Sample> samples, int32_t n_questions, uint64_t seed) {
    std::vector<Sample> all;
    for (size_t i = 0; i < samples.size(); i++) {
        samples[i].text = i;
        auto others = samples[i].facts;
        std::erase_if(others, [&](const Fact& fact) { return fact.key == samples[i].asked; });
        std::mt19937_64 random(seed + i);
        std::ranges::shuffle(others, random);
        others.resize(std::min(others.size(), static_cast<size_t>(n_questions - 1)));
        all.push_back(samples[i]);
        for (const auto& fact : others) all.push_back(asked_for(samples[i], fact));
    }
    return all;
}

}  // namespace cake::eval
