#pragma once

namespace cake::cli {

/// From here on Ctrl-C, which has not been pressed yet, asks to stop instead of ending the process; a second one ends
/// it. A closed pipe becomes an error of write() instead of a signal.
void catch_interrupts();

/// From here on Ctrl-C ends the process again.
void let_interrupts_end_us();

bool interrupted();

}  // namespace cake::cli
