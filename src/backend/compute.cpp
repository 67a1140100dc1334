#include "backend/compute.hpp"

#include <fmt/format.h>
#include <ggml-backend.h>
#include <ggml-cpu.h>

#include <utility>

#include "backend/devices.hpp"

namespace cake {

namespace {

/// Looks up a function of the CPU backend. The backend is a plug-in, so its functions cannot be linked.
template <typename Function>
Function* backend_function(ggml_backend_dev_t device, const char* name) {
    return reinterpret_cast<Function*>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

Result<void> status(ggml_status status) {
    if (status != GGML_STATUS_SUCCESS) return fail(Error::Code::internal, "the device failed to compute a graph");
    return {};
}

}  // namespace

Result<Compute> Compute::create(int32_t n_threads, std::span<const DeviceLayers> layers) {
    load_backends();
    Compute compute;
    compute.n_threads_ = n_threads;
    for (const auto& [name, n_layer] : layers) {
        if (name.empty()) continue;
        const auto found = find_device(name);
        if (!found) return std::unexpected(found.error());
        compute.backends_.emplace_back(ggml_backend_dev_init(*found, nullptr));
        if (!compute.backends_.back())
            return fail(Error::Code::internal, fmt::format("the device {} cannot be started", name));
    }
    if (auto added = compute.add_cpu(); !added) return std::unexpected(added.error());

    compute.place(layers);
    return compute;
}

void Compute::place(std::span<const DeviceLayers> layers) {
    ggml_backend_t cpu = backends_.back().get();
    output_backend_ = cpu;
    if (layers.empty()) {
        memory_ = memory_of(cpu);
        part_backends_ = {cpu};
        return;
    }
    auto next = backends_.begin();
    int32_t end = 0;
    std::vector<LayerMemory::Part> parts;
    for (const auto& [name, n_layer] : layers) {
        output_backend_ = name.empty() ? cpu : (next++)->get();
        part_backends_.push_back(output_backend_);
        parts.push_back({.end = end += n_layer, .memory = memory_of(output_backend_)});
    }
    // A device that computes only the output holds nothing of a text.
    if (parts.size() > 1 && layers.back().n_layer == 1) {
        parts.pop_back();
        part_backends_.pop_back();
    }
    memory_ = LayerMemory(std::move(parts));
}

Result<void> Compute::add_cpu() {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (cpu == nullptr)
        return fail(Error::Code::internal,
                    "ggml has no CPU backend here: install the package that contains ggml's backends");
    ggml_backend_t backend = backends_.emplace_back(ggml_backend_dev_init(cpu, nullptr)).get();
    if (backend == nullptr) return fail(Error::Code::internal, "ggml's CPU backend cannot be started");

    auto* make_pool = backend_function<decltype(ggml_threadpool_new)>(cpu, "ggml_threadpool_new");
    auto* free_pool = backend_function<decltype(ggml_threadpool_free)>(cpu, "ggml_threadpool_free");
    auto* set_pool =
        backend_function<decltype(ggml_backend_cpu_set_threadpool)>(cpu, "ggml_backend_cpu_set_threadpool");
    auto* set_threads = backend_function<void(ggml_backend_t, int)>(cpu, "ggml_backend_set_n_threads");
    if (set_threads != nullptr) set_threads(backend, n_threads_);
    if (make_pool != nullptr && free_pool != nullptr && set_pool != nullptr) {
        ggml_threadpool_params params = ggml_threadpool_params_default(n_threads_);
        threadpool_ = Threadpool(make_pool(&params), free_pool);
        if (!threadpool_) return fail(Error::Code::internal, "the threads cannot be started: use fewer with -t");
        set_pool(backend, threadpool_.get());
    }
    return {};
}

Result<void> Compute::run(ggml_cgraph* graph) const {
    const std::scoped_lock lock(*turn_);
    return status(ggml_backend_graph_compute(backends_.back().get(), graph));
}

bool Compute::allocate(ggml_backend_sched_t scheduler, ggml_cgraph* graph) const {
    const std::scoped_lock lock(*turn_);
    return ggml_backend_sched_alloc_graph(scheduler, graph);
}

Result<void> Compute::run(ggml_backend_sched_t scheduler, ggml_cgraph* graph) const {
    const std::scoped_lock lock(*turn_);
    return status(ggml_backend_sched_graph_compute(scheduler, graph));
}

DeviceMemory Compute::memory_of(ggml_backend_t backend) const {
    ggml_backend_buffer_type_t type = ggml_backend_get_default_buffer_type(backend);
    if (ggml_backend_buft_is_host(type)) return type;
    return {type, backend, turn_.get()};
}

std::vector<ggml_backend_t> Compute::backends() const {
    std::vector<ggml_backend_t> backends;
    for (const auto& backend : backends_) backends.push_back(backend.get());
    return backends;
}

std::vector<ggml_backend_buffer_type_t> Compute::repacked_buffer_types() const {
    std::vector<ggml_backend_buffer_type_t> types;
    auto* list =
        backend_function<ggml_backend_buffer_type_t*(ggml_backend_dev_t)>(cpu(), "ggml_backend_dev_get_extra_bufts");
    if (list == nullptr) return types;
    for (auto* type = list(cpu()); type != nullptr && *type != nullptr; type++) types.push_back(*type);
    return types;
}

}  // namespace cake
