/* The C face of bridge/: a chat template rendered by minijinja as transformers renders it with jinja2. */
#ifndef CAKE_BRIDGE_H
#define CAKE_BRIDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the time now as strftime() does, without a zero byte at its end; the bytes written, or 0. */
typedef size_t (*CakeClock)(void* user, const char* format, size_t n_format, char* out, size_t n_out);

struct CakeTemplate {
    const char* source; /* UTF-8, as is the context */
    size_t n_source;
    const char* context; /* a JSON object: the variables */
    size_t n_context;
    uint64_t fuel; /* instructions; 64 bytes of text made or read cost as much as one */
    size_t max_output_bytes;
    CakeClock clock; /* called on another thread than the caller's, while the caller waits */
    void* clock_user;
};

enum CakeRenderStatus {
    CAKE_RENDERED = 0,
    CAKE_RENDER_WRONG_SYNTAX = 1,
    CAKE_RENDER_FAILED = 2,
    CAKE_RENDER_REFUSED = 3, /* by raise_exception(); text: its message */
    CAKE_RENDER_OUT_OF_FUEL = 4,
    CAKE_RENDER_TOO_LONG = 5, /* the output */
    CAKE_RENDER_BAD_CONTEXT = 6,
    CAKE_RENDER_INTERNAL = 7
};

struct CakeRendered {
    int32_t status;
    size_t line; /* of the template; 0: none */
    char* text;  /* what was rendered, or what went wrong */
    size_t size;
    size_t capacity;
};

/* Characters that are printed as they are even where Python would escape them: U+FDD0 to U+FDEF, U+10FE00 to U+10FEFF. */
struct CakeRendered cake_render_template(const struct CakeTemplate* tmpl);
void cake_free_rendered(struct CakeRendered rendered);

#ifdef __cplusplus
}
#endif

#endif
