#pragma once

/// Marks the symbols that libcake exports; all others are hidden.
#define CAKE_API __attribute__((visibility("default")))
