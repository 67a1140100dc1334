/* C interface of bridge/: chat templates by minijinja, rendered as transformers does with jinja2, and constrained texts
 * by llguidance. */
#ifndef CAKE_BRIDGE_H
#define CAKE_BRIDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that Rust owns. `data` may be null if `size` is 0. */
struct CakeBytes {
    char* data;
    size_t size;
    size_t capacity;
};

void cake_free_bytes(struct CakeBytes bytes);

/* -- chat templates -- */

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
    size_t line;           /* line of the template where an error occurred; 0: none */
    struct CakeBytes text; /* the rendered text or the error message */
};

/* The characters U+FDD0 to U+FDEF and U+10FE00 to U+10FEFF are printed unchanged even if Python would escape them. */
struct CakeRendered cake_render_template(const struct CakeTemplate* tmpl);

/* -- constrained texts -- */

/* The bytes of all tokens, one after the other. A token without text is empty, or begins with the byte FF. */
struct CakeTokens {
    const char* bytes;
    const size_t* ends; /* [n] end of each token in `bytes` */
    size_t n;
    const uint32_t* end_tokens; /* the tokens that end a text, at least one */
    size_t n_end_tokens;
};

/* A vocabulary prepared for computing masks. May be used by several threads at once. */
struct CakeGuideTokens;

/* On failure, returns null and sets `message`. */
struct CakeGuideTokens* cake_guide_tokens(const struct CakeTokens* tokens, struct CakeBytes* message);
void cake_free_guide_tokens(struct CakeGuideTokens* tokens);

enum CakeGuideKind { CAKE_GUIDE_JSON_SCHEMA = 0, CAKE_GUIDE_REGEX = 1, CAKE_GUIDE_LARK = 2 };

struct CakeGuideSource {
    int32_t kind;
    const char* text; /* UTF-8 */
    size_t n_text;
    bool lenient; /* of a JSON schema: ignore keywords that cannot be enforced, with a warning each */
};

/* A text under a constraint. Used by one thread at a time. */
struct CakeGuide;

struct CakeGuideMade {
    struct CakeGuide* guide;  /* null on failure */
    struct CakeBytes message; /* the error, or the ignored keywords, one in each line */
};

/* `tokens`: null to check the constraint without a vocabulary. They may be freed before the guide. */
struct CakeGuideMade cake_make_guide(const struct CakeGuideTokens* tokens, const struct CakeGuideSource* source);
struct CakeGuideMade cake_copy_guide(const struct CakeGuide* guide);
void cake_free_guide(struct CakeGuide* guide);

/* Whether `token` can come next. These functions set `message` on failure, and only then. */
bool cake_guide_allows(struct CakeGuide* guide, uint32_t token, struct CakeBytes* message);
/* Writes a bit for each token that can come next, the lowest bit of the first word for token 0. Costs milliseconds. */
bool cake_guide_mask(struct CakeGuide* guide, uint32_t* mask, size_t n_words, struct CakeBytes* message);
bool cake_guide_accept(struct CakeGuide* guide, uint32_t token, struct CakeBytes* message);
/* Whether the text may end here. */
bool cake_guide_may_end(struct CakeGuide* guide);

#ifdef __cplusplus
}
#endif

#endif
