#include "eval/filler.hpp"

#include <array>
#include <cctype>
#include <span>
#include <string_view>

namespace cake::eval {

namespace {

using Words = std::span<const std::string_view>;

constexpr std::string_view kWho[] = {
    "old farmer", "young teacher", "baker",    "doctor",   "fisherman",   "postman",     "miller",  "neighbour",
    "carpenter",  "schoolboy",     "mayor",    "gardener", "grandmother", "night guard", "painter", "clockmaker",
    "sailor",     "shopkeeper",    "musician", "stranger", "librarian",   "blacksmith",  "cook",    "traveller"};
constexpr std::string_view kDid[] = {"cleaned",  "found",   "carried", "sold",    "painted",  "mended",
                                     "forgot",   "counted", "drew",    "watched", "borrowed", "moved",
                                     "measured", "bought",  "hid",     "opened",  "praised",  "packed",
                                     "lost",     "washed",  "weighed", "wrapped", "admired",  "described"};
constexpr std::string_view kWhat[] = {"a long table", "the wet coats",     "two chairs",      "the last letters",
                                      "a new map",    "the blue plates",   "some dry wood",   "the heavy boxes",
                                      "a thin book",  "the warm bread",    "three old hats",  "the small boats",
                                      "a white door", "the church clock",  "a round stone",   "the best potatoes",
                                      "the keys",     "a pair of gloves",  "the school bell", "four glasses of milk",
                                      "the fences",   "a piece of cheese", "the winter coal", "the wooden toys"};
constexpr std::string_view kWhere[] = {
    "behind the house",    "near the station", "on the hill",      "at the corner",
    "in the kitchen",      "beside the mill",  "under the roof",   "by the lake",
    "across the street",   "next to the well", "in the old barn",  "at the end of the road",
    "in front of the inn", "on the beach",     "below the stairs", "outside the school"};
constexpr std::string_view kWhen[] = {"before breakfast",  "in the afternoon", "after the rain",    "on Monday",
                                      "late at night",     "in early spring",  "during the storm",  "at noon",
                                      "on the first day",  "after the dance",  "in the cold month", "every Friday",
                                      "just before seven", "in the summer",    "a week later",      "once more"};
constexpr std::string_view kThen[] = {"Nobody asked why.",
                                      "It took the whole day.",
                                      "The dog slept through it.",
                                      "Then the wind turned.",
                                      "The children laughed about it.",
                                      "It was not the first time.",
                                      "Somebody would have to pay for that.",
                                      "That was all the news there was.",
                                      "The weather stayed as it was.",
                                      "People still talk about it.",
                                      "Later there was soup.",
                                      "The train was late again."};

std::string pick(Random& random, Words words) {
    return std::string(words[draw(random, words.size())]);
}

std::string capitalised(std::string text) {
    text.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(text.front())));
    return text;
}

}  // namespace

size_t draw(Random& random, size_t n) {
    return static_cast<size_t>(random() % n);
}

Filler repeated_filler() {
    return [i = size_t{0}] mutable {
        static constexpr std::array<std::string_view, 5> kSentences = {
            "The grass is green.", "The sky is blue.", "The sun is yellow.", "Here we go.", "There and back again."};
        return std::string(kSentences[i++ % kSentences.size()]);
    };
}

Filler generated_filler(Random& random) {
    return [&random] {
        const std::string who = "the " + pick(random, kWho);
        const std::string did = pick(random, kDid) + " " + pick(random, kWhat);
        switch (draw(random, 5)) {
            case 0:
                return capitalised(who) + " " + did + " " + pick(random, kWhere) + ".";
            case 1:
                return capitalised(pick(random, kWhen)) + ", " + who + " " + did + ".";
            case 2:
                return capitalised(who) + " " + did + " " + pick(random, kWhere) + ", and the " + pick(random, kWho) +
                       " " + pick(random, kDid) + " " + pick(random, kWhat) + ".";
            case 3:
                return capitalised(pick(random, kWhere)) + " " + who + " " + did + " " + pick(random, kWhen) + ".";
            default:
                return pick(random, kThen);
        }
    };
}

Filler text_filler(const std::vector<std::string>& sentences, Random& random) {
    return [&sentences, i = draw(random, sentences.size())] mutable { return sentences[i++ % sentences.size()]; };
}

std::vector<std::string> split_sentences(std::string_view text) {
    constexpr size_t kMaxBytes = 300;
    std::vector<std::string> sentences(1);
    for (const char c : text) {
        const bool space = c == ' ' || c == '\n' || c == '\r' || c == '\t';
        const bool begins_character = (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
        auto& sentence = sentences.back();
        const bool ended = space && !sentence.empty() && std::string_view(".!?").contains(sentence.back());
        const bool too_long =
            sentence.size() >= kMaxBytes && (space || (sentence.size() >= 2 * kMaxBytes && begins_character));
        if (ended || too_long) sentences.emplace_back();
        auto& current = sentences.back();
        if (!space) {
            current += c;
        } else if (!current.empty() && current.back() != ' ') {
            current += ' ';
        }
    }
    for (auto& sentence : sentences) {
        while (sentence.ends_with(' ')) sentence.pop_back();
    }
    std::erase(sentences, "");
    return sentences;
}

}  // namespace cake::eval
