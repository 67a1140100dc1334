#pragma once

#include <ggml-cpp.h>

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "memory/accountant.hpp"
#include "model/compute.hpp"

namespace cake {

/// A graph being built: nodes that depend on inputs, computed once by a GraphRunner.
class Graph {
  public:
    explicit Graph(size_t n_nodes);

    ggml_context* context() const { return context_.get(); }
    ggml_cgraph* get() const { return graph_; }

    ggml_tensor* input(ggml_type type, int64_t ne0, int64_t ne1 = 1);
    /// Keeps a node's result until the next graph is allocated.
    ggml_tensor* output(ggml_tensor* node);
    /// Makes a node, and what it depends on, part of the graph, after all that already is.
    void add(ggml_tensor* node) { ggml_build_forward_expand(graph_, node); }

    /// Makes something that a node needs when it is computed, and keeps it as long as the graph.
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

/// Allocates and computes graphs one after another in one buffer, which grows to the largest and is accounted for.
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
    const Compute& compute_;
    Accountant& accountant_;
    ggml_gallocr_ptr allocator_;
    size_t n_bytes_ = 0;
};

/// Sets an input of an allocated graph; one that no node reads has no place, and is left.
template <typename T>
void set_input(ggml_tensor* tensor, std::span<const T> values) {
    if (tensor->data == nullptr) return;
    ggml_backend_tensor_set(tensor, values.data(), 0, values.size_bytes());
}

}  // namespace cake
