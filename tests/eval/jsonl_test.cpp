#include "eval/jsonl.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace cake::eval {
namespace {

class Files : public testing::Test {
  protected:
    void SetUp() override {
        folder = std::filesystem::path(testing::TempDir()) / fmt::format("cake-jsonl-{}", ::getpid());
        std::filesystem::create_directories(folder);
    }
    void TearDown() override { std::filesystem::remove_all(folder); }

    std::string write(const std::string& name, const std::string& text) {
        std::ofstream(folder / name) << text;
        return (folder / name).string();
    }

    TaskInput input(std::vector<std::string> data) {
        return {.n_samples = 100, .data = std::move(data), .counter = {}, .warn = [this](const std::string& message) {
                    warnings.push_back(message);
                }};
    }

    std::filesystem::path folder;
    std::vector<std::string> warnings;
};

constexpr const char* kLine = R"({"prompt": "line a: <12>. What is in line a?", "expected_number": 12})";

TEST_F(Files, AMalformedLineIsNamedByFileAndLine) {
    for (const std::string bad : {"{", "[]", "3", "{}", R"({"prompt": 1.5, "expected_number": 2})",
                                  R"({"prompt": "x"})", "\xff\xfe", R"({"prompt": {"a": 1}, "expected_number": 2})"}) {
        SCOPED_TRACE(bad);
        const auto path = write("a.jsonl", std::string(kLine) + "\n\n" + bad + "\n" + kLine + "\n");
        const auto refused = longeval_samples(input({path}));
        ASSERT_FALSE(refused);
        EXPECT_TRUE(refused.error().message.starts_with(path + ":3: ")) << refused.error().message;

        auto going_on = input({path});
        going_on.keep_going = true;
        const auto samples = longeval_samples(going_on);
        ASSERT_TRUE(samples);
        EXPECT_EQ(samples->size(), 2U);
        ASSERT_EQ(warnings.size(), 1U);
        EXPECT_TRUE(warnings[0].starts_with(path + ":3: "));
        warnings.clear();
    }
}

TEST_F(Files, AFolderIsItsJsonlFilesInOrder) {
    write("b.jsonl", kLine);
    write("a.jsonl", R"({"prompt": "first", "expected_number": "7"})");
    write("notes.txt", "no sample");
    const auto samples = longeval_samples(input({folder.string()}));
    ASSERT_TRUE(samples) << samples.error().message;
    ASSERT_EQ(samples->size(), 2U);
    EXPECT_EQ((*samples)[0].prompt, "first");
    EXPECT_EQ((*samples)[1].answers, std::vector<std::string>{"12"});
}

TEST_F(Files, WhatIsNotThereOrEmptyIsSaid) {
    EXPECT_FALSE(longeval_samples(input({(folder / "none.jsonl").string()})));
    EXPECT_FALSE(longeval_samples(input({folder.string()})));
    EXPECT_FALSE(longeval_samples(input({write("empty.jsonl", "\n")})));
}

TEST_F(Files, KvRetrievalKeepsTheOrderOfTheRecords) {
    const auto path =
        write("kv.jsonl",
              R"({"ordered_kv_records": [["z", "1"], ["a", "2 \" quoted"]], "key": "a", "value": "2 \" quoted"})");
    const auto samples = kv_retrieval_samples(input({path}));
    ASSERT_TRUE(samples) << samples.error().message;
    EXPECT_NE((*samples)[0].prompt.find("{\"z\": \"1\",\n \"a\": \"2 \\\" quoted\"}\n\nKey: \"a\""), std::string::npos);
    EXPECT_FALSE(kv_retrieval_samples(
        input({write("bad.jsonl", R"({"ordered_kv_records": [["z"]], "key": "", "value": ""})")})));
}

TEST_F(Files, LongBenchPutsContextAndInputIntoTheDatasetsPrompt) {
    const auto path = write(
        "lb.jsonl",
        R"({"dataset": "hotpotqa", "context": "CONTEXT", "input": "INPUT", "answers": ["x"], "all_classes": null})"
        "\n"
        R"({"dataset": "gov_report_e", "context": "CONTEXT", "input": "INPUT", "answers": ["x"]})"
        "\n"
        R"({"dataset": "trec", "context": "CONTEXT", "input": "INPUT", "answers": ["x"], "all_classes": ["x", "y"]})"
        "\n");
    const auto samples = longbench_samples(input({path}));
    ASSERT_TRUE(samples) << samples.error().message;
    EXPECT_TRUE((*samples)[0].prompt.ends_with("any other words.\n\nQuestion: INPUT\nAnswer:"));
    EXPECT_NE((*samples)[1].prompt.find("Report:\nCONTEXT\n\nNow"), std::string::npos);
    EXPECT_EQ((*samples)[1].prompt.find("INPUT"), std::string::npos);
    EXPECT_EQ((*samples)[2].classes, (std::vector<std::string>{"x", "y"}));
    const auto unknown = longbench_samples(
        input({write("u.jsonl", R"({"dataset": "nosuch", "context": "", "input": "", "answers": []})")}));
    ASSERT_FALSE(unknown);
    EXPECT_NE(unknown.error().message.find("narrativeqa"), std::string::npos);
}

TEST_F(Files, LongBenchV2CountsByDifficultyAndLength) {
    const std::string line =
        R"({"context": "C", "question": "Q", "choice_A": "1", "choice_B": "2", "choice_C": "3", "choice_D": "4", "answer": "B", "difficulty": "hard", "length": "short"})";
    const auto samples = longbench_v2_samples(input({write("v2.jsonl", line)}));
    ASSERT_TRUE(samples) << samples.error().message;
    EXPECT_EQ((*samples)[0].subtasks, (std::vector<std::string>{"all", "hard", "short"}));
    EXPECT_NE((*samples)[0].prompt.find("Q\nChoices:\n(A) 1\n(B) 2\n(C) 3\n(D) 4"), std::string::npos);
}

}  // namespace
}  // namespace cake::eval
