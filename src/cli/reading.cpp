#include "cli/reading.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "cake/token_stream.hpp"
#include "cli/interrupt.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"

namespace cake::cli {

namespace {

constexpr size_t kHeadBytes = 256;  // longer than the name of any token

/// Warns if a text begins with the name of the token that is put before every text. `head`: the first kHeadBytes bytes,
/// or the whole text if it is shorter.
void warn_of_written_first_token(const Engine& engine, std::string_view head) {
    const auto first = engine.first_token();
    if (!first) return;
    const auto tokens = TokenStream::whole(engine, head, true);
    if (!tokens || tokens->empty() || tokens->front() != *first) return;
    complain(
        "warning: the text begins with the token that this model puts before every text; it counts once: leave it out");
}

}  // namespace

Result<std::vector<Token>> tokens_of(const Engine& engine, const std::string& text, bool continues, int64_t most) {
    if (!continues) warn_of_written_first_token(engine, std::string_view(text).substr(0, kHeadBytes));
    auto tokens = continues ? TokenStream::whole(engine, text, true) : engine.tokenize(text);
    if (tokens && most > 0 && static_cast<int64_t>(tokens->size()) > most) tokens->resize(static_cast<size_t>(most));
    return tokens;
}

ProgressFunction shown_on(ProgressBar& bar) {
    return [&bar](int64_t done, int64_t total) {
        bar.update(done, total);
        return !interrupted();
    };
}

ProgressFunction shown_on(ProgressBar& bar, const Engine& engine, int64_t n_before) {
    return [&engine, n_before, update = shown_on(bar), warned = false](int64_t done, int64_t total) mutable {
        if (!std::exchange(warned, true) && n_before <= engine.info().n_ctx_train)
            warn_beyond_training(engine, n_before + total);
        return update(done, total);
    };
}

Result<void> read_tokens(Sequence& sequence, const std::vector<Token>& tokens) {
    ProgressBar bar(fmt::format("reading {} tokens", format_count(tokens.size())));
    return sequence.append(tokens, {.progress = shown_on(bar)});
}

Result<int64_t> read_stream(const Engine& engine, Sequence& sequence, Input& input, int64_t segment, int64_t most) {
    TokenStream stream(engine, sequence.n_tokens() > 0);
    ProgressBar bar("reading");
    std::vector<Token> waiting;
    std::string head;
    bool begun = sequence.n_tokens() > 0;
    int64_t n_read = 0;
    const AppendOptions options{.progress = [&](int64_t done, int64_t) {
        bar.update_stream(n_read + done, most > 0 ? std::nullopt : input.share_read());
        return !interrupted();
    }};
    for (bool at_end = false; !at_end;) {
        const auto some = input.read_some();
        if (!some) return std::unexpected(some.error());
        if (interrupted()) return fail(Error::Code::cancelled, "cancelled");
        at_end = some->empty();
        const auto tokens = at_end ? stream.finish() : stream.feed(*some);
        if (!tokens) return std::unexpected(tokens.error());
        head += some->substr(0, kHeadBytes - head.size());
        // `head` is complete: the stream returns its first tokens after far more bytes, or at the end.
        if (!tokens->empty() && !std::exchange(begun, true)) warn_of_written_first_token(engine, head);
        waiting.insert(waiting.end(), tokens->begin(), tokens->end());
        if (most > 0 && n_read + static_cast<int64_t>(waiting.size()) >= most) {
            waiting.resize(static_cast<size_t>(most - n_read));
            at_end = true;
        }
        while (static_cast<int64_t>(waiting.size()) >= segment || (at_end && !waiting.empty())) {
            const auto n = std::min(segment, static_cast<int64_t>(waiting.size()));
            if (auto read = sequence.append(std::span(waiting).first(static_cast<size_t>(n)), options); !read)
                return std::unexpected(read.error());
            waiting.erase(waiting.begin(), waiting.begin() + n);
            if (n_read <= engine.info().n_ctx_train && n_read + n > engine.info().n_ctx_train) {
                bar.clear();
                warn_beyond_training(engine, n_read + n);
            }
            n_read += n;
        }
    }
    return n_read;
}

void warn_beyond_training(const Engine& engine, int64_t n_tokens) {
    if (n_tokens <= engine.info().n_ctx_train) return;
    complain(fmt::format(
        "warning: the text has at least {} tokens, and the model was trained on texts of {}; it may answer badly",
        format_count(static_cast<uint64_t>(n_tokens)), format_count(static_cast<uint64_t>(engine.info().n_ctx_train))));
}

}  // namespace cake::cli
