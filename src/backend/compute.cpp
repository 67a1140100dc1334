#include "backend/compute.hpp"

#include <ggml-backend.h>
#include <ggml-cpu.h>

#include <mutex>

namespace cake {

namespace {

/// Looks up a function of the CPU backend. The backend is a plug-in, so its functions cannot be linked.
template <typename Function>
Function* backend_function(ggml_backend_dev_t device, const char* name) {
    return reinterpret_cast<Function*>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

}  // namespace

Result<Compute> Compute::create(int32_t n_threads) {
    static std::once_flag loaded;
    std::call_once(loaded, ggml_backend_load_all);

    Compute compute;
    compute.n_threads_ = n_threads;
    compute.device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (compute.device_ == nullptr)
        return fail(Error::Code::internal,
                    "ggml has no CPU backend here: install the package that contains ggml's backends");
    compute.backend_.reset(ggml_backend_dev_init(compute.device_, nullptr));
    if (!compute.backend_) return fail(Error::Code::internal, "ggml's CPU backend cannot be started");

    auto* make_pool = backend_function<decltype(ggml_threadpool_new)>(compute.device_, "ggml_threadpool_new");
    auto* free_pool = backend_function<decltype(ggml_threadpool_free)>(compute.device_, "ggml_threadpool_free");
    auto* set_pool =
        backend_function<decltype(ggml_backend_cpu_set_threadpool)>(compute.device_, "ggml_backend_cpu_set_threadpool");
    auto* set_threads = backend_function<void(ggml_backend_t, int)>(compute.device_, "ggml_backend_set_n_threads");
    if (set_threads != nullptr) set_threads(compute.backend_.get(), n_threads);
    if (make_pool != nullptr && free_pool != nullptr && set_pool != nullptr) {
        ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
        compute.threadpool_ = Threadpool(make_pool(&params), free_pool);
        if (!compute.threadpool_)
            return fail(Error::Code::internal, "the threads cannot be started: use fewer with -t");
        set_pool(compute.backend_.get(), compute.threadpool_.get());
    }
    return compute;
}

Result<void> Compute::run(ggml_cgraph* graph) const {
    const std::scoped_lock lock(*turn_);
    if (ggml_backend_graph_compute(backend_.get(), graph) != GGML_STATUS_SUCCESS)
        return fail(Error::Code::internal, "the device failed to compute a graph");
    return {};
}

std::vector<ggml_backend_buffer_type_t> Compute::repacked_buffer_types() const {
    std::vector<ggml_backend_buffer_type_t> types;
    auto* list =
        backend_function<ggml_backend_buffer_type_t*(ggml_backend_dev_t)>(device_, "ggml_backend_dev_get_extra_bufts");
    if (list == nullptr) return types;
    for (auto* type = list(device_); type != nullptr && *type != nullptr; type++) types.push_back(*type);
    return types;
}

}  // namespace cake
