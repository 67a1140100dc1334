#include "cli/interrupt.hpp"

#include <csignal>

namespace cake::cli {

namespace {

volatile std::sig_atomic_t g_interrupted = 0;

extern "C" void on_interrupt(int signal) {
    g_interrupted = 1;
    std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
    g_interrupted = 0;
    std::signal(SIGINT, on_interrupt);
    std::signal(SIGPIPE, SIG_IGN);
}

void let_interrupts_end_us() {
    std::signal(SIGINT, SIG_DFL);
}

bool interrupted() {
    return g_interrupted != 0;
}

}  // namespace cake::cli
