#include "server/connection_threads.hpp"

#include <thread>
#include <utility>

namespace cake::server {

bool ConnectionThreads::enqueue(std::function<void()> work) {
    {
        const std::scoped_lock lock(running_->mutex);
        if (running_->n == most_) return false;
        running_->n++;
    }
    const auto end = [running = running_] {
        const std::scoped_lock lock(running->mutex);
        running->n--;
        running->changed.notify_all();
    };
    try {
        std::thread([end, work = std::move(work)] {
            work();
            end();
        }).detach();
        return true;
    } catch (...) {  // no thread could be created, or no memory is left
        end();
        return false;
    }
}

void ConnectionThreads::shutdown() {
    std::unique_lock lock(running_->mutex);
    running_->changed.wait(lock, [&] { return running_->n == 0; });
}

}  // namespace cake::server
