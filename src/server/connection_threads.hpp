#pragma once

#include <httplib.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>

namespace cake::server {

/// A thread for each connection, as many as there may be: one that waits for its answer, or stalls, holds nobody up.
class ConnectionThreads final : public httplib::TaskQueue {
  public:
    explicit ConnectionThreads(size_t most) : most_(most) {}

    /// False where there are as many as there may be; the connection is then closed.
    bool enqueue(std::function<void()> work) override;
    void shutdown() override;

  private:
    struct Count {
        std::mutex mutex;
        std::condition_variable changed;
        size_t n = 0;
    };

    size_t most_;
    std::shared_ptr<Count> running_ = std::make_shared<Count>();  // outlives the last thread's last look at it
};

}  // namespace cake::server
