#pragma once

#include <ggml-cpp.h>

#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "backend/accountant.hpp"
#include "backend/compute.hpp"

namespace cake {

/// A ggml graph under construction, which a GraphRunner allocates and computes.
class Graph {
  public:
    explicit Graph(size_t n_nodes);

    ggml_context* context() const { return context_.get(); }
    ggml_cgraph* get() const { return graph_; }

    ggml_tensor* input(ggml_type type, int64_t ne0, int64_t ne1 = 1);
    /// Keeps a node's result until the next graph is allocated, or this one is computed again.
    ggml_tensor* output(ggml_tensor* node);
    /// Appends a node and its dependencies to the graph.
    void add(ggml_tensor* node) { ggml_build_forward_expand(graph_, node); }

    /// Creates an object that a node needs when it is computed. It lives as long as the graph.
    template <typename T, typename... Arguments>
    T& own(Arguments&&... arguments) {
        auto made = std::make_shared<T>(std::forward<Arguments>(arguments)...);
        owned_.push_back(made);
        return *made;
    }

  private:
    ggml_context_ptr context_;
    ggml_cgraph* graph_;
    std::vector<std::shared_ptr<void>> owned_;
};

/// Allocates and computes graphs, one after another, in a single buffer on each device. The buffers grow to the size
/// of the largest graph and are counted by the accountant.
class GraphRunner {
  public:
    GraphRunner(const Compute& compute, Accountant& accountant);
    ~GraphRunner();
    GraphRunner(const GraphRunner&) = delete;
    GraphRunner& operator=(const GraphRunner&) = delete;

    Result<void> allocate(Graph& graph);
    Result<void> compute(Graph& graph);
    Accountant& accountant() const { return accountant_; }

  private:
    bool allocate_on_cpu(Graph& graph);
    bool allocate_on_device(Graph& graph);
    /// Frees the buffers.
    void release();
    void account(ggml_backend_dev_t device, size_t n_bytes);

    const Compute& compute_;
    Accountant& accountant_;
    ggml_gallocr_ptr allocator_{};                  // if the model runs on the CPU
    ggml_backend_sched_ptr scheduler_{};            // if it runs on another device: nodes that it lacks run on the CPU
    size_t most_nodes_ = 0;                         // size of the graphs for which the scheduler has room
    std::map<ggml_backend_dev_t, size_t> n_bytes_;  // by device; null: the host
};

/// Sets an input of an allocated graph. Does nothing if no node reads the input, since it has no memory then.
template <typename T>
void set_input(ggml_tensor* tensor, std::span<const T> values) {
    if (tensor->data == nullptr) return;
    ggml_backend_tensor_set(tensor, values.data(), 0, values.size_bytes());
}

/// Sets an input to consecutive numbers.
template <typename T>
void set_numbers(ggml_tensor* input, int64_t first) {
    std::vector<T> numbers(static_cast<size_t>(input->ne[0]));
    std::iota(numbers.begin(), numbers.end(), static_cast<T>(first));
    set_input<T>(input, numbers);
}

}  // namespace cake
