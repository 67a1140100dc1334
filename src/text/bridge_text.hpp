#pragma once

#include <cake_bridge.h>

#include <string>
#include <string_view>

namespace cake {

/// A text that a function of the bridge returned.
class BridgeText {
  public:
    BridgeText() = default;
    explicit BridgeText(CakeBytes bytes) : bytes_(bytes) {}
    BridgeText(const BridgeText&) = delete;
    BridgeText& operator=(const BridgeText&) = delete;
    ~BridgeText() { cake_free_bytes(bytes_); }

    /// For a function that writes its text here.
    CakeBytes* out() { return &bytes_; }
    bool empty() const { return bytes_.size == 0; }
    std::string_view view() const { return {bytes_.data, bytes_.size}; }
    std::string text() const { return std::string(view()); }

  private:
    CakeBytes bytes_{};
};

}  // namespace cake
