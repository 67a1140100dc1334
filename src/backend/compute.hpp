#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "backend/layer_memory.hpp"
#include "cake/device.hpp"
#include "cake/error.hpp"

namespace cake {

/// The devices that compute the layers of a model, with their backends, and the CPU with a persistent thread pool,
/// which computes what they cannot.
class Compute {
  public:
    /// `layers`: see place_layers(); empty: the CPU computes all. `n_threads` must be at least 1. Backends are loaded
    /// at run time. Fails if there is no such device, or no CPU backend.
    static Result<Compute> create(int32_t n_threads, std::span<const DeviceLayers> layers = {});

    /// Computes an allocated graph on the CPU. Threads that share the device take turns.
    Result<void> run(ggml_cgraph* graph) const;
    /// Allocates a graph on the devices, for which it may wait until they have computed another one. Returns false if
    /// there is no memory.
    bool allocate(ggml_backend_sched_t scheduler, ggml_cgraph* graph) const;
    /// Computes a graph that `scheduler` has allocated.
    Result<void> run(ggml_backend_sched_t scheduler, ggml_cgraph* graph) const;

    bool is_cpu() const { return backends_.size() == 1; }
    ggml_backend_dev_t cpu() const { return ggml_backend_get_device(backends_.back().get()); }
    /// The devices that compute a layer, and the output.
    ggml_backend_dev_t device(int32_t layer) const {
        return ggml_backend_get_device(part_backends_[memory_.part_of(layer)]);
    }
    ggml_backend_dev_t output_device() const { return ggml_backend_get_device(output_backend_); }
    /// What the layers keep is on the devices that compute them.
    const LayerMemory& memory() const { return memory_; }
    /// The devices, and then the CPU.
    std::vector<ggml_backend_t> backends() const;
    /// Layouts that weights on the CPU can be repacked into, best first.
    std::vector<ggml_backend_buffer_type_t> repacked_buffer_types() const;
    int32_t n_threads() const { return n_threads_; }

  private:
    Compute() = default;
    Result<void> add_cpu();
    void place(std::span<const DeviceLayers> layers);
    DeviceMemory memory_of(ggml_backend_t backend) const;

    using Threadpool = std::unique_ptr<ggml_threadpool, std::function<void(ggml_threadpool*)>>;
    int32_t n_threads_ = 1;
    Threadpool threadpool_;  // must outlive the backend that uses it
    std::vector<ggml_backend_ptr> backends_;
    std::unique_ptr<std::mutex> turn_ = std::make_unique<std::mutex>();
    std::vector<ggml_backend_t> part_backends_;  // by part of memory_
    ggml_backend_t output_backend_ = nullptr;
    LayerMemory memory_{nullptr};
};

}  // namespace cake
