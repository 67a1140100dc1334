#include "eval/results.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "eval/plot.hpp"

namespace cake::eval {
namespace {

std::vector<Row> rows() {
    const auto row = [](std::string policy, int64_t budget, double depth, double value) {
        return Row{.policy = std::move(policy),
                   .budget = budget,
                   .subtask = "a, \"b\"",
                   .length_tokens = 512,
                   .depth = depth,
                   .n_samples = 7,
                   .figures = {{.name = "score", .value = value, .interval = Interval{value - 0.1, value + 0.1}}}};
    };
    return {row("full", 0, -1, 0.9), row("full", 0, 0.5, 0.8), row("cake", 64, -1, 0.75), row("cake", 64, 0.5, 0.5)};
}

TEST(Table, HasDepthsBesideWhatIsTakenOverAllOfThem) {
    EXPECT_EQ(to_table(rows()),
              "| policy | budget | subtask | length | samples | score (95 %)        | at 50% |\n"
              "| ------ | ------ | ------- | ------ | ------- | ------------------- | ------ |\n"
              "| full   | all    | a, \"b\"  | 512    | 7       | 0.900 (0.800–1.000) | 0.80   |\n"
              "| cake   | 64     | a, \"b\"  | 512    | 7       | 0.750 (0.650–0.850) | 0.50   |\n");
}

TEST(Csv, QuotesWhatHasToBe) {
    const auto text = to_csv(rows());
    EXPECT_TRUE(
        text.starts_with("policy,budget,subtask,length,depth,samples,score,score_low,score_high\n"
                         "full,0,\"a, \"\"b\"\"\",512,,7,0.9,"))
        << text;
    EXPECT_NE(text.find("cake,64,\"a, \"\"b\"\"\",512,0.5,7,0.5,0.4,0.6\n"), std::string::npos) << text;
}

TEST(Json, HoldsEveryRow) {
    const auto object = nlohmann::json::parse(to_json(rows(), "niah", "m.gguf"));
    EXPECT_EQ(object["task"], "niah");
    ASSERT_EQ(object["rows"].size(), 4U);
    EXPECT_EQ(object["rows"][3]["depth"], 0.5);
    EXPECT_FALSE(object["rows"][2].contains("depth"));
    EXPECT_EQ(object["rows"][2]["score"], 0.75);
}

TEST(Plot, HasAPlaceForNothingLostOnALogarithmicAxis) {
    if (!check_plotter()) GTEST_SKIP() << "gnuplot is not installed";
    auto zero = rows();
    for (auto& row : zero) row.figures = {{.name = "kl", .value = 0, .interval = std::nullopt}};
    const std::string path = testing::TempDir() + "/zero.svg";
    const auto drawn = draw_svg(line_plot(zero, "zero"), path);
    EXPECT_TRUE(drawn) << drawn.error().message;
    std::filesystem::remove(path);
}

TEST(Plot, DrawsSvgInWholeOrNotAtAll) {
    if (!check_plotter()) GTEST_SKIP() << "gnuplot is not installed";
    // gnuplot must not interpret a path as commands.
    const std::string path = testing::TempDir() + "/|it's a plot; #.svg";
    for (const auto& commands : {line_plot(rows(), "it's"), heat_map(rows(), "100 % 'of' it")}) {
        const auto drawn = draw_svg(commands, path);
        ASSERT_TRUE(drawn) << drawn.error().message << "\n" << commands;
        std::ifstream stream(path);
        const std::string svg{std::istreambuf_iterator<char>(stream), {}};
        EXPECT_NE(svg.find("<svg"), std::string::npos);
        EXPECT_NE(svg.find("</svg>"), std::string::npos);
        EXPECT_NE(svg.find("tokens"), std::string::npos) << "axes have names";
        std::filesystem::remove(path);
    }
    EXPECT_FALSE(draw_svg("plot nonsense (", path));
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_FALSE(draw_svg(line_plot(rows(), "x"), "/nonexistent/x.svg"));
}

}  // namespace
}  // namespace cake::eval
