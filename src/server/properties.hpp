#pragma once

#include <string>

#include "cake/batcher.hpp"
#include "cake/engine.hpp"
#include "server/body.hpp"
#include "server/document_shelf.hpp"

namespace cake::server {

/// How a request's tokens are sampled, with the names of llama.cpp.
Json sampling_json(const SamplingOptions& sampling);
Json sampling_json(const GenerationRequest& request);

/// The answer to GET /tokenizer_info, as vLLM has it.
Json tokenizer_json(const Engine& engine, const ChatOptions& chat);

/// The answer to GET /props: what the server and its model are.
Json properties_json(const Engine& engine, const BatcherLimits& limits, const SamplingOptions& sampling,
                     const ChatOptions& chat);

/// The answer to GET /documents: the documents that requests may name, and those that cannot be used, with the reason.
Json documents_json(DocumentShelf& documents, const BatcherLimits& limits);

}  // namespace cake::server
