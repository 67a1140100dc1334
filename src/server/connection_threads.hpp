#pragma once

#include <httplib.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace cake::server {

/// Runs each connection in a thread of its own, up to a maximum, so that a connection that waits or stalls does not
/// block others.
class ConnectionThreads final : public httplib::TaskQueue {
  public:
    explicit ConnectionThreads(size_t most) : most_(most) {}

    /// Returns false if the maximum is reached or no thread can be started; the connection is then closed.
    bool enqueue(std::function<void()> work) override;
    void shutdown() override;

  private:
    struct Count {
        std::mutex mutex;
        std::condition_variable changed;
        size_t n = 0;
    };

    size_t most_;
    std::shared_ptr<Count> running_ = std::make_shared<Count>();  // shared, because threads may outlive this object
};

}  // namespace cake::server
