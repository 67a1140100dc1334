#pragma once

/// What of libcake its users can link to; everything else in it is hidden.
#define CAKE_API __attribute__((visibility("default")))
