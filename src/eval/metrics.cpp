#include "eval/metrics.hpp"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <map>
#include <ranges>
#include <regex>
#include <string>
#include <vector>

namespace cake::eval {

namespace {

constexpr double kZ = 1.959964;  // 97.5 % quantile of the normal distribution

bool is_ascii(char c) {
    return static_cast<unsigned char>(c) < 0x80;
}
bool is_punctuation(char c) {
    return is_ascii(c) && std::ispunct(static_cast<unsigned char>(c)) != 0;
}
bool is_space(char c) {
    return is_ascii(c) && std::isspace(static_cast<unsigned char>(c)) != 0;
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::string lower(std::string_view text) {
    std::string result(text);
    std::ranges::transform(result, result.begin(), [](char c) {
        return is_ascii(c) ? static_cast<char>(std::tolower(static_cast<unsigned char>(c))) : c;
    });
    return result;
}

std::vector<std::string> split_words(std::string_view text) {
    std::vector<std::string> words(1);
    for (const char c : text) {
        if (!is_space(c)) {
            words.back() += c;
        } else if (!words.back().empty()) {
            words.emplace_back();
        }
    }
    if (words.back().empty()) words.pop_back();
    return words;
}

std::vector<std::string> answer_words(std::string_view text) {
    std::string plain = lower(text);
    std::erase_if(plain, is_punctuation);
    auto words = split_words(plain);
    std::erase_if(words, [](const std::string& word) { return word == "a" || word == "an" || word == "the"; });
    return words;
}

/// UTF-8 characters of a text.
std::vector<std::string> characters(std::string_view text) {
    std::vector<std::string> result;
    for (const char c : text) {
        const bool continues = (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
        if (continues && !result.empty()) {
            result.back() += c;
        } else {
            result.emplace_back(1, c);
        }
    }
    return result;
}

std::vector<std::string> answer_characters(std::string_view text) {
    static constexpr std::string_view kPunctuation =
        "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃《》「」『』【】〔〕〖〗〘〙〚〛〜"
        "〝〞〟〰–—‘’‛“”„‟…‧﹏";
    static const auto marks = characters(kPunctuation);
    auto result = characters(lower(text));
    std::erase_if(result, [](const std::string& c) {
        return is_space(c.front()) || is_punctuation(c.front()) || std::ranges::contains(marks, c);
    });
    return result;
}

template <typename Sequence>
size_t longest_common_subsequence(const Sequence& a, const Sequence& b) {
    std::vector<size_t> row(b.size() + 1, 0);
    for (const auto& x : a) {
        size_t diagonal = 0;
        for (size_t j = 0; j < b.size(); j++) {
            const size_t above = row[j + 1];
            row[j + 1] = x == b[j] ? diagonal + 1 : std::max(above, row[j]);
            diagonal = above;
        }
    }
    return row.back();
}

double f1(size_t n_common, size_t n_predicted, size_t n_true) {
    if (n_common == 0) return 0;
    const double precision = static_cast<double>(n_common) / static_cast<double>(n_predicted);
    const double recall = static_cast<double>(n_common) / static_cast<double>(n_true);
    return 2 * precision * recall / (precision + recall);
}

/// F1 of two multisets of words or characters.
double bag_f1(const std::vector<std::string>& predicted, const std::vector<std::string>& truth) {
    std::map<std::string, int> left;
    for (const auto& part : truth) left[part]++;
    size_t n_common = 0;
    for (const auto& part : predicted) {
        if (left[part]-- > 0) n_common++;
    }
    return f1(n_common, predicted.size(), truth.size());
}

double best(const Sample& sample, const std::function<double(const std::string&)>& score) {
    double result = 0;
    for (const auto& answer : sample.answers) result = std::max(result, score(answer));
    return result;
}

std::vector<std::string> numbers_in(std::string_view text) {
    std::vector<std::string> numbers;
    bool inside = false;
    for (const char c : text) {
        if (is_digit(c)) {
            if (!inside) numbers.emplace_back();
            numbers.back() += c;
        }
        inside = is_digit(c);
    }
    return numbers;
}

/// 97.5 % quantile of Student's t-distribution: exact for 1 and 2 degrees of freedom, otherwise the Cornish-Fisher
/// expansion (Abramowitz and Stegun 26.7.5) with an error below 1 %.
double student_quantile(double degrees) {
    if (degrees < 1.5) return 12.7062;
    if (degrees < 2.5) return 4.30265;
    const double z2 = kZ * kZ;
    const double g1 = (z2 + 1) / 4;
    const double g2 = ((5 * z2 + 16) * z2 + 3) / 96;
    const double g3 = (((3 * z2 + 19) * z2 + 17) * z2 - 15) / 384;
    return kZ * (1 + g1 / degrees + g2 / (degrees * degrees) + g3 / (degrees * degrees * degrees));
}

}  // namespace

double contains_all(std::string_view prediction, const Sample& sample) {
    if (sample.answers.empty()) return 0;
    const std::string text = lower(prediction);
    const auto n = std::ranges::count_if(sample.answers, [&](const auto& a) { return text.contains(lower(a)); });
    return static_cast<double>(n) / static_cast<double>(sample.answers.size());
}

double contains_any(std::string_view prediction, const Sample& sample) {
    const std::string text = lower(prediction);
    return std::ranges::any_of(sample.answers, [&](const auto& a) { return text.contains(lower(a)); }) ? 1 : 0;
}

double last_number(std::string_view prediction, const Sample& sample) {
    const auto numbers = numbers_in(prediction);
    return !numbers.empty() && std::ranges::contains(sample.answers, numbers.back()) ? 1 : 0;
}

double qa_f1(std::string_view prediction, const Sample& sample) {
    const auto predicted = answer_words(prediction);
    return best(sample, [&](const std::string& answer) { return bag_f1(predicted, answer_words(answer)); });
}

double qa_f1_zh(std::string_view prediction, const Sample& sample) {
    const auto predicted = answer_characters(prediction);
    return best(sample, [&](const std::string& answer) { return bag_f1(predicted, answer_characters(answer)); });
}

double rouge_l(std::string_view prediction, const Sample& sample) {
    const auto predicted = split_words(prediction);
    return best(sample, [&](const std::string& answer) {
        const auto truth = split_words(answer);
        return f1(longest_common_subsequence(predicted, truth), predicted.size(), truth.size());
    });
}

double classification(std::string_view prediction, const Sample& sample) {
    return best(sample, [&](const std::string& answer) {
        // Do not count a class whose name is part of the right answer: it occurs wherever the answer does.
        const auto n = std::ranges::count_if(sample.classes, [&](const auto& c) {
            return prediction.contains(c) && (c == answer || !answer.contains(c));
        });
        return prediction.contains(answer) && n > 0 ? 1.0 / static_cast<double>(n) : 0.0;
    });
}

double number_share(std::string_view prediction, const Sample& sample) {
    const auto numbers = numbers_in(prediction);
    if (numbers.empty()) return 0;
    return best(sample, [&](const std::string& answer) {
        const auto wanted = numbers_in(answer);
        if (wanted.empty()) return 0.0;
        return static_cast<double>(std::ranges::count(numbers, wanted.front())) / static_cast<double>(numbers.size());
    });
}

double code_similarity(std::string_view prediction, const Sample& sample) {
    prediction.remove_prefix(std::min(prediction.find_first_not_of('\n'), prediction.size()));
    std::string_view line;
    for (const auto part : std::views::split(prediction, '\n')) {
        const std::string_view candidate(part);
        if (candidate.contains('`') || candidate.contains('#') || candidate.contains("//")) continue;
        line = candidate;
        break;
    }
    const auto predicted = characters(line);
    return best(sample, [&](const std::string& answer) {
        const auto truth = characters(answer);
        return f1(longest_common_subsequence(predicted, truth), predicted.size(), truth.size());
    });
}

double answer_letter(std::string_view prediction, const Sample& sample) {
    std::string text(prediction);
    std::erase(text, '*');
    static const std::regex patterns[] = {std::regex(R"(The correct answer is \(([A-D])\))"),
                                          std::regex("The correct answer is ([A-D])")};
    for (const auto& pattern : patterns) {
        if (std::smatch match; std::regex_search(text, match, pattern))
            return std::ranges::contains(sample.answers, match[1].str()) ? 1 : 0;
    }
    return 0;
}

double mean(std::span<const double> values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

std::optional<Interval> confidence(std::span<const double> scores) {
    if (scores.empty()) return std::nullopt;
    if (!std::ranges::all_of(scores, [](double s) { return s == 0 || s == 1; })) {
        auto interval = student_confidence(scores);
        if (interval) *interval = {std::max(interval->low, 0.0), std::min(interval->high, 1.0)};
        return interval;
    }
    const double p = mean(scores);
    const auto n = static_cast<double>(scores.size());
    const double center = (p + kZ * kZ / (2 * n)) / (1 + kZ * kZ / n);
    const double half = kZ / (1 + kZ * kZ / n) * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
    return Interval{std::max(center - half, 0.0), std::min(center + half, 1.0)};
}

std::optional<Interval> student_confidence(std::span<const double> values) {
    if (values.size() < 2 || std::ranges::adjacent_find(values, std::not_equal_to{}) == values.end())
        return std::nullopt;
    const double center = mean(values);
    double sum = 0;
    for (const double v : values) sum += (v - center) * (v - center);
    const auto n = static_cast<double>(values.size());
    const double half = student_quantile(n - 1) * std::sqrt(sum / (n - 1) / n);
    return Interval{center - half, center + half};
}

}  // namespace cake::eval
