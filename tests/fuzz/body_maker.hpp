#pragma once

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace cake::test {

/// Makes random request bodies from the fields that the API knows. Most are valid; some have fields of a wrong type,
/// out of range or too many, and some have damaged bytes.
class BodyMaker {
  public:
    explicit BodyMaker(uint64_t seed) : random_(seed) {}

    std::string body();
    /// Makes the text of a JSON schema.
    std::string schema_text();

  private:
    using Json = nlohmann::ordered_json;

    size_t below(size_t n) { return random_() % n; }
    bool once_in(size_t n) { return below(n) == 0; }
    template <typename T>
    const T& one_of(std::initializer_list<T> values) {
        return values.begin()[below(values.size())];
    }

    std::string text();
    Json number();
    Json usual_number();
    Json anything(int depth);
    Json messages();
    Json tools();
    Json tool_choice();
    Json items();
    Json schema(int depth);
    Json response_format();
    std::string grammar();
    std::string expression(int depth);
    Json value_of(const std::string& field);
    std::string changed(std::string text);

    std::mt19937_64 random_;
};

}  // namespace cake::test
