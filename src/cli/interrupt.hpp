#pragma once

namespace cake::cli {

/// Resets interrupted(). From now on, Ctrl-C sets it instead of ending the process; a second Ctrl-C ends the process.
/// Writing to a closed pipe is an error of write() instead of a signal.
void catch_interrupts();

/// From now on, Ctrl-C ends the process again.
void let_interrupts_end_us();

bool interrupted();

}  // namespace cake::cli
