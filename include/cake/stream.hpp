#pragma once

#include <cassert>
#include <cstddef>
#include <functional>
#include <iterator>
#include <optional>
#include <utility>

namespace cake {

/// Values that are produced on demand, one at a time: `for (const auto& value : stream)`. Can be iterated only once.
template <typename T>
class Stream {
  public:
    /// `next` returns the next value, or nothing at the end and in every later call.
    explicit Stream(std::function<std::optional<T>()> next) : next_(std::move(next)) {}

    /// Returns the next value, or nothing at the end.
    std::optional<T> next() { return next_(); }

    class Iterator {
      public:
        using value_type = T;
        using difference_type = std::ptrdiff_t;

        explicit Iterator(Stream& stream) : stream_(&stream) {}
        T& operator*() const {
            assert(stream_->value_.has_value());
            return *stream_->value_;
        }
        Iterator& operator++() {
            stream_->value_ = stream_->next_();
            return *this;
        }
        void operator++(int) { ++*this; }
        bool operator==(std::default_sentinel_t /*end*/) const { return !stream_->value_; }

      private:
        Stream* stream_;
    };

    Iterator begin() {
        value_ = next_();
        return Iterator(*this);
    }
    static std::default_sentinel_t end() { return {}; }

  private:
    std::function<std::optional<T>()> next_;
    std::optional<T> value_;  // current value of the iterator
};

}  // namespace cake
