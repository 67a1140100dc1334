#pragma once

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace cake::test {

/// Bodies of requests, drawn from a grammar of what the API knows: mostly good, with fields that are wrong in type,
/// range or number here and there, and bytes that are changed at last.
class BodyMaker {
  public:
    explicit BodyMaker(uint64_t seed) : random_(seed) {}

    std::string body();

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
    Json schema(int depth);
    Json response_format();
    std::string grammar();
    std::string expression(int depth);
    Json value_of(const std::string& field);
    std::string changed(std::string text);

    std::mt19937_64 random_;
};

}  // namespace cake::test
