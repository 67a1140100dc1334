#include "eval/words.hpp"

namespace cake::eval {

namespace {

constexpr std::string_view kAdjectives[] = {
    "ancient", "amber",  "bitter",  "brave",   "bright",  "broken",  "bronze", "calm",   "careful", "clever",
    "cold",    "copper", "crooked", "crystal", "curious", "distant", "dusty",  "eager",  "early",   "empty",
    "faded",   "famous", "fierce",  "frozen",  "gentle",  "gilded",  "golden", "grand",  "hollow",  "honest",
    "humble",  "idle",   "jolly",   "lazy",    "little",  "lonely",  "lucky",  "marble", "modest",  "mossy",
    "narrow",  "noble",  "painted", "patient", "polite",  "proud",   "quiet",  "rapid",  "rusty",   "sacred",
    "scarlet", "secret", "silent",  "silver",  "simple",  "sleepy",  "sturdy", "tender", "violet",  "wooden"};

constexpr std::string_view kNouns[] = {
    "anchor",  "apple",    "arrow",   "badger",  "barrel",  "basket",   "beacon",   "bottle",  "bridge",  "button",
    "cabin",   "camel",    "candle",  "cannon",  "canyon",  "castle",   "cellar",   "cherry",  "circus",  "clover",
    "compass", "coral",    "cottage", "cradle",  "cricket", "crown",    "dagger",   "dolphin", "donkey",  "dragon",
    "drum",    "eagle",    "engine",  "falcon",  "feather", "ferry",    "fiddle",   "flute",   "forest",  "fountain",
    "galley",  "garden",   "garlic",  "giant",   "ginger",  "glacier",  "goblet",   "grove",   "guitar",  "hammer",
    "harbor",  "harvest",  "helmet",  "heron",   "island",  "ivory",    "jacket",   "jungle",  "kettle",  "kitten",
    "ladder",  "lantern",  "lemon",   "lizard",  "locket",  "magnet",   "maple",    "market",  "meadow",  "mirror",
    "monkey",  "mountain", "needle",  "nugget",  "oasis",   "orchard",  "otter",    "oyster",  "palace",  "panther",
    "parrot",  "pebble",   "pepper",  "pigeon",  "pillow",  "pirate",   "planet",   "pocket",  "pumpkin", "puppet",
    "quarry",  "rabbit",   "raven",   "ribbon",  "river",   "robin",    "rocket",   "saddle",  "salmon",  "scepter",
    "shadow",  "shepherd", "shovel",  "spider",  "spoon",   "squirrel", "statue",   "tailor",  "temple",  "thistle",
    "thunder", "tiger",    "timber",  "trumpet", "tunnel",  "turtle",   "umbrella", "valley",  "velvet",  "village",
    "violin",  "wagon",    "walnut",  "whistle", "willow",  "window",   "wizard",   "zebra"};

}  // namespace

std::span<const std::string_view> adjectives() {
    return kAdjectives;
}
std::span<const std::string_view> nouns() {
    return kNouns;
}

}  // namespace cake::eval
