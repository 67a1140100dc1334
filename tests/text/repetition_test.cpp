#include "text/repetition.hpp"

#include <gtest/gtest.h>

#include <string>

namespace cake {
namespace {

std::string repeated(const std::string& passage, size_t n) {
    std::string text;
    for (size_t i = 0; i < n; i++) text += passage;
    return text;
}

TEST(Repetition, IsAPassageOverAndOverAtTheEnd) {
    EXPECT_TRUE(repeats_itself("It is called " + repeated(" cake", 200)));
    EXPECT_TRUE(repeats_itself(repeated("The answer to your question is:\n\n", 40) + "The ans"));
    EXPECT_TRUE(repeats_itself(repeated(std::string(199, 'a') + "b", 4)));
    EXPECT_TRUE(repeats_itself("One. " + repeated("The cake is made by the command named cake.\n", 12)))
        << "a sentence";
}

TEST(Repetition, IsNotWhatEndsOrChanges) {
    EXPECT_FALSE(repeats_itself(""));
    EXPECT_FALSE(repeats_itself(repeated(" cake", 199))) << "995 bytes";
    EXPECT_FALSE(repeats_itself(repeated(" cake", 400) + ".")) << "something new";
    EXPECT_FALSE(repeats_itself(repeated(std::string(200, 'a') + "b", 8))) << "passages of 201 bytes";
    std::string numbers;
    for (int i = 0; i < 500; i++) numbers += std::to_string(i) + ", ";
    EXPECT_FALSE(repeats_itself(numbers));
    EXPECT_FALSE(repeats_itself(repeated("The cake is made by the command named cake.\n", 11)));
    EXPECT_FALSE(repeats_itself(repeated("    {0, 0, 0, 0, 0, 0, 0, 0},\n", 30))) << "rows of a short table of numbers";
    EXPECT_FALSE(repeats_itself(repeated("    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,\n", 9)));
}

}  // namespace
}  // namespace cake
