#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cake/error.hpp"

namespace cake {

/// The device that a model runs on: its backend, its buffer types and a persistent thread pool.
class Compute {
  public:
    /// `n_threads` must be at least 1. Backends are loaded at run time. Fails if no CPU backend is installed.
    static Result<Compute> create(int32_t n_threads);

    /// Computes an allocated graph. Threads that share the device take turns.
    Result<void> run(ggml_cgraph* graph) const;

    ggml_backend_dev_t device() const { return device_; }
    ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(device_); }
    /// Layouts that weights can be repacked into, best first.
    std::vector<ggml_backend_buffer_type_t> repacked_buffer_types() const;
    int32_t n_threads() const { return n_threads_; }

  private:
    Compute() = default;

    using Threadpool = std::unique_ptr<ggml_threadpool, std::function<void(ggml_threadpool*)>>;
    ggml_backend_dev_t device_ = nullptr;
    int32_t n_threads_ = 1;
    Threadpool threadpool_;  // must outlive the backend that uses it
    ggml_backend_ptr backend_;
    std::unique_ptr<std::mutex> turn_ = std::make_unique<std::mutex>();
};

}  // namespace cake
