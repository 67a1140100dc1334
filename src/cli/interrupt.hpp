#pragma once

namespace cake::cli {

/// From here on Ctrl-C asks to stop instead of ending the process; a second one ends it. A closed pipe becomes an error
/// of write() instead of a signal.
void catch_interrupts();

bool interrupted();

}  // namespace cake::cli
