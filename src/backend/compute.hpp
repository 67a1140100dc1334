#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backend/device_memory.hpp"
#include "cake/error.hpp"

namespace cake {

/// The device that a model runs on, with its backend, and the CPU with a persistent thread pool, which computes what
/// the device cannot.
class Compute {
  public:
    /// `device`: name of a ggml device; empty: the CPU. `n_threads` must be at least 1. Backends are loaded at run
    /// time. Fails if there is no such device, or no CPU backend.
    static Result<Compute> create(int32_t n_threads, const std::string& device = {});

    /// Computes an allocated graph on the CPU. Threads that share the device take turns.
    Result<void> run(ggml_cgraph* graph) const;
    /// Computes a graph that `scheduler` has allocated.
    Result<void> run(ggml_backend_sched_t scheduler, ggml_cgraph* graph) const;

    bool is_cpu() const { return backends_.size() == 1; }
    ggml_backend_dev_t device() const { return ggml_backend_get_device(backends_.front().get()); }
    ggml_backend_dev_t cpu() const { return ggml_backend_get_device(backends_.back().get()); }
    ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(device()); }
    /// The memory of the device.
    DeviceMemory memory() const;
    /// The device, if it is not the CPU, and then the CPU.
    std::vector<ggml_backend_t> backends() const;
    /// Layouts that weights on the CPU can be repacked into, best first.
    std::vector<ggml_backend_buffer_type_t> repacked_buffer_types() const;
    int32_t n_threads() const { return n_threads_; }

  private:
    Compute() = default;
    Result<void> add_cpu();

    using Threadpool = std::unique_ptr<ggml_threadpool, std::function<void(ggml_threadpool*)>>;
    int32_t n_threads_ = 1;
    Threadpool threadpool_;  // must outlive the backend that uses it
    std::vector<ggml_backend_ptr> backends_;
    std::unique_ptr<std::mutex> turn_ = std::make_unique<std::mutex>();
};

}  // namespace cake
