/* C interface of bridge/: renders chat templates with minijinja in the same way as transformers does with jinja2. */
#ifndef CAKE_BRIDGE_H
#define CAKE_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the current time in a format of strftime(), without a terminating zero. Returns the number of bytes written,
 * or 0 on failure. */
typedef size_t (*CakeClock)(void* user, const char* format, size_t n_format, char* out, size_t n_out);

struct CakeTemplate {
    const char* source; /* UTF-8 */
    size_t n_source;
    const char* context; /* template variables: a JSON object in UTF-8 */
    size_t n_context;
    uint64_t fuel; /* max instructions; every 64 bytes of text produced or read cost as much as one */
    size_t max_output_bytes;
    CakeClock clock; /* called on another thread while the caller waits */
    void* clock_user;
};

enum CakeRenderStatus {
    CAKE_RENDERED = 0,
    CAKE_RENDER_WRONG_SYNTAX = 1,
    CAKE_RENDER_FAILED = 2,
    CAKE_RENDER_REFUSED = 3, /* raise_exception() was called; `text` is its message */
    CAKE_RENDER_OUT_OF_FUEL = 4,
    CAKE_RENDER_TOO_LONG = 5, /* the output exceeds max_output_bytes */
    CAKE_RENDER_BAD_CONTEXT = 6,
    CAKE_RENDER_INTERNAL = 7
};

struct CakeRendered {
    int32_t status;
    size_t line; /* line of the template where an error occurred; 0: none */
    char* text;  /* the rendered text or the error message */
    size_t size;
    size_t capacity;
};

/* Free the result with cake_free_rendered(). The characters U+FDD0 to U+FDEF and U+10FE00 to U+10FEFF are printed
 * unchanged even if Python would escape them. */
struct CakeRendered cake_render_template(const struct CakeTemplate* tmpl);
void cake_free_rendered(struct CakeRendered rendered);

#ifdef __cplusplus
}
#endif

#endif
