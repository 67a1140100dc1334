#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cake {

/// Makes the text of an answer of its tokens' bytes: whole characters of UTF-8, and nothing from where it is to stop.
class AnswerText {
  public:
    explicit AnswerText(std::vector<std::string> stop) : stop_(std::move(stop)) {}

    /// The text that is certain with these bytes: what may yet become a stop string, or a character, waits.
    std::string add(std::string_view bytes);
    /// What waited, when no more comes.
    std::string finish();
    /// The whole characters that wait.
    std::string_view held() const;
    /// Whether a stop string was found; everything from it on is left out.
    bool stopped() const { return stopped_; }

  private:
    std::vector<std::string> stop_;
    std::string bytes_;  // that wait
    bool stopped_ = false;
};

/// Bytes as UTF-8: what is none becomes U+FFFD.
std::string to_utf8(std::string_view bytes);

}  // namespace cake
