#pragma once

#include <sys/types.h>

#include <string>

namespace cake::test {

/// A process that runs ggml-rpc-server on this machine with the CPU as its device.
class RpcServer {
  public:
    RpcServer() = default;
    RpcServer(RpcServer&& other) noexcept;
    ~RpcServer() { kill(); }

    /// Starts the process and waits until it accepts connections. Returns HOST:PORT.
    std::string start();
    void kill();

  private:
    pid_t process_ = -1;
};

/// Starts two servers, once in a process, whose devices are RPC0 and RPC1.
void use_rpc_servers();

}  // namespace cake::test
