#include "backend/graph.hpp"

namespace cake {

Graph::Graph(size_t n_nodes)
    : context_(ggml_init({.mem_size = n_nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_nodes, false),
                          .mem_buffer = nullptr,
                          .no_alloc = true})),
      graph_(ggml_new_graph_custom(context_.get(), n_nodes, false)) {}

ggml_tensor* Graph::input(ggml_type type, int64_t ne0, int64_t ne1) {
    ggml_tensor* tensor = ggml_new_tensor_2d(context_.get(), type, ne0, ne1);
    ggml_set_input(tensor);
    return tensor;
}

ggml_tensor* Graph::output(ggml_tensor* node) {
    ggml_set_output(node);
    add(node);
    return node;
}

GraphRunner::GraphRunner(const Compute& compute, Accountant& accountant) : compute_(compute), accountant_(accountant) {}

GraphRunner::~GraphRunner() {
    release();
}

Result<void> GraphRunner::allocate(Graph& graph) {
    if (!(compute_.is_cpu() ? allocate_on_cpu(graph) : allocate_on_device(graph))) {
        release();  // ggml's allocators believe that they have the buffers that they failed to allocate
        return fail(Error::Code::out_of_memory, "out of memory for intermediate results: use a smaller batch (-b)");
    }
    return {};
}

void GraphRunner::release() {
    allocator_.reset();
    scheduler_.reset();
    most_nodes_ = 0;
    for (const auto& [device, n_bytes] : n_bytes_) accountant_.give(MemoryUse::compute, n_bytes, device);
    n_bytes_.clear();
}

bool GraphRunner::allocate_on_cpu(Graph& graph) {
    if (!allocator_) allocator_.reset(ggml_gallocr_new(compute_.memory().part(0).buffer_type));
    if (!ggml_gallocr_alloc_graph(allocator_.get(), graph.get())) return false;
    account(nullptr, ggml_gallocr_get_buffer_size(allocator_.get(), 0));
    return true;
}

bool GraphRunner::allocate_on_device(Graph& graph) {
    auto backends = compute_.backends();
    const auto n_nodes = static_cast<size_t>(ggml_graph_size(graph.get()));
    if (n_nodes > most_nodes_) {
        most_nodes_ = n_nodes;
        const size_t n_nodes_and_leafs = 2 * n_nodes;
        scheduler_.reset(ggml_backend_sched_new(backends.data(), nullptr, static_cast<int>(backends.size()),
                                                n_nodes_and_leafs, false, false));
    }
    ggml_backend_sched_reset(scheduler_.get());
    for (int i = 0; i < ggml_graph_n_nodes(graph.get()); i++) {  // RPC claims to support every operation
        ggml_tensor* node = ggml_graph_node(graph.get(), i);
        if (node->op == GGML_OP_CUSTOM) ggml_backend_sched_set_tensor_backend(scheduler_.get(), node, backends.back());
    }
    if (!compute_.allocate(scheduler_.get(), graph.get())) return false;
    for (ggml_backend_t backend : backends)
        account(device_of(ggml_backend_get_default_buffer_type(backend)),
                ggml_backend_sched_get_buffer_size(scheduler_.get(), backend));
    return true;
}

void GraphRunner::account(ggml_backend_dev_t device, size_t n_bytes) {
    size_t& counted = n_bytes_[device];
    if (n_bytes > counted) accountant_.take(MemoryUse::compute, n_bytes - counted, device);
    if (n_bytes < counted) accountant_.give(MemoryUse::compute, counted - n_bytes, device);
    counted = n_bytes;
}

Result<void> GraphRunner::compute(Graph& graph) {
    return compute_.is_cpu() ? compute_.run(graph.get()) : compute_.run(scheduler_.get(), graph.get());
}

}  // namespace cake
