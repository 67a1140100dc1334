#pragma once

#include <memory>
#include <semaphore>

namespace cake::server {

/// Limits how many bodies are parsed at once, because each takes many times its size in memory.
class Turns {
  public:
    /// Waits for a turn, which ends when the result is destroyed.
    std::shared_ptr<void> take() {
        free_.acquire();
        return {nullptr, [this](void*) { free_.release(); }};
    }

  private:
    static constexpr int kMax = 4;
    std::counting_semaphore<> free_{kMax};
};

}  // namespace cake::server
