#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cake/engine.hpp"
#include "cake/export.hpp"

namespace cake {

/// Tokenizes a text that arrives in pieces. The tokens are those that Engine::tokenize() returns for the whole text. (A
/// text of more than 256 KiB without a single space between two words is split between two characters.)
class CAKE_API TokenStream {
  public:
    /// `continues`: the text follows another one, so the first token is not added.
    explicit TokenStream(const Engine& engine, bool continues = false);

    /// Adds a piece of the text, which may end anywhere, and returns the tokens that are final so far.
    Result<std::vector<Token>> feed(std::string_view bytes);
    /// Returns the remaining tokens.
    Result<std::vector<Token>> finish();

    /// Tokens of a complete text.
    static Result<std::vector<Token>> whole(const Engine& engine, std::string_view text, bool continues);

  private:
    Result<std::vector<Token>> read_piece(std::string_view text);

    std::shared_ptr<const EngineState> state_;
    std::string rest_;
    bool begun_;
};

}  // namespace cake
