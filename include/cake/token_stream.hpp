#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cake/engine.hpp"
#include "cake/export.hpp"

namespace cake {

/// Makes tokens of a text that comes in pieces: those of the whole, as Engine::tokenize() would give them. (A text of
/// more than 256 KiB without a space between two words is cut between two characters.)
class CAKE_API TokenStream {
  public:
    /// `continues`: the text goes on after another, so no first token is put before it.
    explicit TokenStream(const Engine& engine, bool continues = false);

    /// The tokens that are certain so far; a piece may end anywhere.
    Result<std::vector<Token>> feed(std::string_view bytes);
    /// The tokens that are left.
    Result<std::vector<Token>> finish();

    /// Those of a text that is at hand.
    static Result<std::vector<Token>> whole(const Engine& engine, std::string_view text, bool continues);

  private:
    Result<std::vector<Token>> read_piece(std::string_view text);

    std::shared_ptr<const EngineState> state_;
    std::string rest_;
    bool begun_;
};

}  // namespace cake
