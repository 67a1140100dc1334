// LongBench (arXiv 2308.14508) and LongBench v2 (arXiv 2412.15204). Prompts and answer lengths are those of the
// benchmarks.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "eval/jsonl.hpp"
#include "eval/metrics.hpp"
#include "eval/task.hpp"

namespace cake::eval {

namespace {

/// One dataset of LongBench. Its prompt is `before` {context} `between` {input} `after`.
struct Dataset {
    std::string_view name;
    std::string_view before, between, after;
    Metric metric;
    int32_t max_tokens;
    bool first_line_only = false;
};

constexpr std::string_view kPassagesBefore =
    "Answer the question based on the given passages. Only give me the answer and do not output any other "
    "words.\n\nThe "
    "following are given passages.\n";
constexpr std::string_view kPassagesBetween =
    "\n\nAnswer the question based on the given passages. Only give me the answer and do not output any other "
    "words.\n\nQuestion: ";

constexpr Dataset kDatasets[] = {
    {"narrativeqa",
     "You are given a story, which can be either a novel or a movie script, and a question. Answer the question as "
     "concisely as you can, using a single phrase if possible. Do not provide any explanation.\n\nStory: ",
     "\n\nNow, answer the question based on the story as concisely as you can, using a single phrase if possible. Do "
     "not "
     "provide any explanation.\n\nQuestion: ",
     "\n\nAnswer:", qa_f1, 128},
    {"qasper",
     "You are given a scientific article and a question. Answer the question as concisely as you can, using a single "
     "phrase or sentence if possible. If the question cannot be answered based on the information in the article, "
     "write "
     "\"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not "
     "provide "
     "any explanation.\n\nArticle: ",
     "\n\n Answer the question based on the above article as concisely as you can, using a single phrase or sentence "
     "if "
     "possible. If the question cannot be answered based on the information in the article, write \"unanswerable\". If "
     "the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not provide any "
     "explanation.\n\nQuestion: ",
     "\n\nAnswer:", qa_f1, 128},
    {"multifieldqa_en", "Read the following text and answer briefly.\n\n",
     "\n\nNow, answer the following question based on the above text, only give me the answer and do not output any "
     "other "
     "words.\n\nQuestion: ",
     "\nAnswer:", qa_f1, 64},
    {"multifieldqa_zh", "阅读以下文字并用中文简短回答：\n\n",
     "\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：", "\n回答：", qa_f1_zh,
     64},
    {"hotpotqa", kPassagesBefore, kPassagesBetween, "\nAnswer:", qa_f1, 32},
    {"2wikimqa", kPassagesBefore, kPassagesBetween, "\nAnswer:", qa_f1, 32},
    {"musique", kPassagesBefore, kPassagesBetween, "\nAnswer:", qa_f1, 32},
    {"gov_report",
     "You are given a report by a government agency. Write a one-page summary of the report.\n\nReport:\n",
     "\n\nNow, write a one-page summary of the report.\n\nSummary:", "", rouge_l, 512},
    {"qmsum",
     "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one or "
     "more sentences.\n\nTranscript:\n",
     "\n\nNow, answer the query based on the above meeting transcript in one or more sentences.\n\nQuery: ",
     "\nAnswer:", rouge_l, 512},
    {"multi_news", "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n",
     "\n\nNow, write a one-page summary of all the news.\n\nSummary:", "", rouge_l, 512},
    {"trec", "Please determine the type of the question below. Here are some examples of questions.\n\n", "\n", "",
     classification, 64, true},
    {"triviaqa",
     "Answer the question based on the given passage. Only give me the answer and do not output any other words. The "
     "following are some examples.\n\n",
     "\n\n", "", qa_f1, 32, true},
    {"samsum", "Summarize the dialogue into a few short sentences. The following are some examples.\n\n", "\n\n", "",
     rouge_l, 128, true},
    {"passage_count",
     "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully read "
     "these "
     "paragraphs and determine how many unique paragraphs there are after removing duplicates. In other words, how "
     "many "
     "non-repeating paragraphs are there in total?\n\n",
     "\n\nPlease enter the final count of unique paragraphs after removing duplicates. The output format should only "
     "contain the number, such as 1, 2, 3, and so on.\n\nThe final answer is: ",
     "", number_share, 32},
    {"passage_retrieval_en",
     "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract is "
     "from.\n\n",
     "\n\nThe following is an abstract.\n\n",
     "\n\nPlease enter the number of the paragraph that the abstract is from. The answer format must be like "
     "\"Paragraph "
     "1\", \"Paragraph 2\", etc.\n\nThe answer is: ",
     number_share, 32},
    {"passage_retrieval_zh", "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n",
     "\n\n下面是一个摘要\n\n", "\n\n请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
     number_share, 32},
    {"lcc", "Please complete the code given below. \n", "Next line of code:\n", "", code_similarity, 64},
    {"repobench-p", "Please complete the code given below. \n", "", "Next line of code:\n", code_similarity, 64},
};

/// Whether the dataset's prompt uses the field "input".
bool takes_input(const Dataset& dataset) {
    constexpr std::string_view kWithout[] = {"gov_report", "multi_news", "passage_count", "lcc"};
    return !std::ranges::contains(kWithout, dataset.name);
}

std::string dataset_names() {
    std::string names;
    for (const auto& dataset : kDatasets) names += (names.empty() ? "" : ", ") + std::string(dataset.name);
    return names;
}

Result<Sample> longbench_sample(const nlohmann::json& object) {
    const auto name = string_field(object, "dataset");
    if (!name) return std::unexpected(name.error());
    // LongBench-E appends "_e" to the names, as in "hotpotqa_e".
    const std::string_view plain = name->ends_with("_e") ? std::string_view(*name).substr(0, name->size() - 2) : *name;
    const auto* dataset = std::ranges::find(kDatasets, plain, &Dataset::name);
    if (dataset == std::end(kDatasets))
        return fail(fmt::format("the dataset \"{}\" is not known; the datasets are: {}", *name, dataset_names()));
    const auto context = string_field(object, "context");
    if (!context) return std::unexpected(context.error());
    const auto input = string_field(object, "input");
    if (!input) return std::unexpected(input.error());
    auto answers = strings_field(object, "answers");
    if (!answers) return std::unexpected(answers.error());
    // As in LongBench, few-shot and code prompts are not put into the chat template; all others are.
    constexpr std::string_view kContinued[] = {"trec", "triviaqa", "samsum", "lcc", "repobench-p"};
    Sample sample{.subtasks = {std::string(dataset->name)},
                  .chat = !std::ranges::contains(kContinued, dataset->name),
                  .answers = std::move(*answers),
                  .metric = dataset->metric,
                  .max_tokens = dataset->max_tokens,
                  .first_line_only = dataset->first_line_only};
    sample.prompt = fmt::format("{}{}", dataset->before, *context);
    sample.question_begin = sample.prompt.size();
    sample.prompt +=
        fmt::format("{}{}{}", dataset->between, takes_input(*dataset) ? *input : std::string(), dataset->after);
    if (dataset->metric == classification) {
        auto classes = strings_field(object, "all_classes");
        if (!classes) return std::unexpected(classes.error());
        sample.classes = std::move(*classes);
    }
    return sample;
}

Result<Sample> longbench_v2_sample(const nlohmann::json& object) {
    std::array<std::string, 9> fields;
    constexpr const char* kNames[] = {"context",  "question", "choice_A",   "choice_B", "choice_C",
                                      "choice_D", "answer",   "difficulty", "length"};
    for (size_t i = 0; i < fields.size(); i++) {
        auto field = string_field(object, kNames[i]);
        if (!field) return std::unexpected(field.error());
        fields[i] = std::move(*field);
    }
    const auto& [context, question, a, b, c, d, answer, difficulty, length] = fields;
    if (answer.size() != 1 || answer.front() < 'A' || answer.front() > 'D')
        return fail("the field \"answer\" is not A, B, C or D");
    const auto text = fmt::format(
        "Please read the following text and answer the question below.\n\n<text>\n{}\n</text>\n\n", context);
    return Sample{
        .subtasks = {"all", difficulty, length},
        .prompt = fmt::format("{}What is the correct answer to this question: "
                              "{}\nChoices:\n(A) {}\n(B) {}\n(C) {}\n(D) {}\n\nFormat your response as follows: "
                              "\"The correct answer is (insert answer here)\".",
                              text, question, a, b, c, d),
        .question_begin = text.size(),
        .chat = true,
        .answers = {answer},
        .metric = answer_letter,
        .max_tokens = 128};
}

}  // namespace

Result<std::vector<Sample>> longbench_samples(const TaskInput& input) {
    return read_samples(input, [](const auto& object, const auto&) { return longbench_sample(object); });
}

Result<std::vector<Sample>> longbench_v2_samples(const TaskInput& input) {
    return read_samples(input, [](const auto& object, const auto&) { return longbench_v2_sample(object); });
}

}  // namespace cake::eval
