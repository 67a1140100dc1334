#include "engine/session.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>

#include <utility>

#include "engine/json_fields.hpp"
#include "engine/session_options.hpp"
#include "memory/cache_codec.hpp"
#include "memory/session_file.hpp"
#include "method/allocator.hpp"
#include "model/fingerprint.hpp"
#include "text/json_text.hpp"
#include "text/optional_json.hpp"

namespace cake {

namespace {

constexpr size_t kMaxNoteBytes = size_t{8} << 20U;

/// The note as it will be loaded: bytes that are not valid UTF-8 are replaced, which makes it longer.
std::string readable(const std::string& note) {
    return Json::parse(json_text(Json(note))).get<std::string>();
}

/// The ring row of the next query, in a ring as write_queries() writes it.
int32_t saved_next(const QueryRing& ring) {
    return ring.n_filled() < ring.n_rows() ? ring.n_filled() : ring.next();
}

bool saves_logits(const SequenceParts& state, const SaveOptions& options) {
    return !options.more_follows && !state.next.logits.empty();
}

Json write_layer(const SequenceParts& state, int32_t layer, const SaveOptions& options) {
    const auto i = static_cast<size_t>(layer);
    Json runs = Json::array();
    for (const Run& run : state.cache.sliced.runs(layer)) runs.push_back({run.length, run.capacity});
    const auto& report = state.report.layers[i];
    return {{"dispersion", value_or_null<Json>(report.dispersion)},
            {"shift", value_or_null<Json>(report.shift)},
            {"preference", value_or_null<Json>(report.preference)},
            {"budget", report.budget},
            {"n_unread", options.more_follows ? 0 : state.progress.n_unread[i]},
            {"runs", std::move(runs)}};
}

std::string write_header(const SequenceParts& state, const SaveOptions& options) {
    const QueryRing& queries = state.cache.queries;
    Json layers = Json::array();
    for (const int32_t layer : state.cache.sliced.layers()) layers.push_back(write_layer(state, layer, options));
    Json header{{"model", fingerprint(state.config.engine->file)},
                {"model_name", state.config.hparams().name},
                {"options", write_options(state.config.options)},
                {"tokens_per_layer", state.cache.plan.tokens_per_layer},
                {"n_tokens", state.progress.n_tokens},
                {"pending", value_or_null<Json>(state.next.pending)},
                {"ring", options.more_follows ? Json{0, 0} : Json{queries.n_filled(), saved_next(queries)}},
                {"layer_bytes", state.report.layer_bytes},
                {"layers", std::move(layers)},
                {"n_settled", state.progress.n_settled},
                {"has_logits", saves_logits(state, options)},
                {"note", state.note}};
    if (const auto sliding = state.cache.sliding.layers(); !sliding.empty())
        header["window_length"] = state.cache.sliding.runs(sliding.front()).front().length;
    return json_text(header);
}

/// Length and capacity of one run, as stored in the file.
struct SavedRun {
    int32_t length = 0;
    int32_t capacity = 0;
};

class Loader {
  public:
    Loader(std::shared_ptr<const EngineState> engine, const std::string& path, SessionReader reader,
           const LoadOptions& options)
        : engine_(std::move(engine)), path_(path), reader_(std::move(reader)), options_(options) {}

    /// Reads the header. The sequence has no cache yet.
    Result<void> describe() {
        const Json header = parse_json(reader_.header());
        if (!header.is_object()) return damaged("its header is not JSON");
        if (auto made = make_state(header); !made) return std::unexpected(made.error());
        if (auto said = read_header(header); !said) return std::unexpected(said.error());
        // Allocate only if the size of the file agrees with its header.
        if (n_content_bytes() != reader_.bytes_left()) return damaged("its size does not match its header");
        return {};
    }

    /// Allocates and reads the cache, after describe().
    Result<void> load() {
        widen();
        if (auto accepted = accept(); !accepted) return with_path(accepted.error());
        if (auto opened = state_->open_cache(plan_); !opened) return with_path(opened.error());
        std::vector<int32_t> capacities;
        std::ranges::transform(runs_, std::back_inserter(capacities), &SavedRun::capacity);
        state_->cache.sliced.arrange(capacities);
        state_->cache.queries.restore(n_queries_, next_query_);
        return read_content();
    }

    SessionDescription take() { return {.state = std::move(state_), .longest_run = longest_run()}; }

  private:
    std::unexpected<Error> damaged(std::string_view what) const { return reader_.damaged(what); }
    std::unexpected<Error> with_path(const Error& error) const {
        return fail(error.code, fmt::format("{}: {}", path_, error.message));
    }
    std::unexpected<Error> damaged_field(const std::string& key) const {
        return damaged(fmt::format("\"{}\" is not valid", key));
    }

    Result<void> accept() const {
        if (!options_.accept) return {};
        const uint64_t n_bytes = planned_bytes(engine_->compute.memory(), state_->config.layout, plan_);
        return options_.accept(*state_, n_bytes, longest_run());
    }

    /// Tokens of the KV head that holds the most, in any layer.
    int64_t longest_run() const {
        return std::max(std::ranges::max(runs_, {}, &SavedRun::length).length, window_length_);
    }

    Result<void> make_state(const Json& header) {
        Fields fields(header);
        uint64_t model = 0;
        std::string name;
        int64_t tokens_per_layer = 0;
        fields.unsigned64("model", model);
        fields.text("model_name", name);
        fields.integer("tokens_per_layer", tokens_per_layer, 1, std::numeric_limits<int32_t>::max());
        const Json* saved = fields.find("options");
        if (!fields.first_wrong().empty()) return damaged_field(fields.first_wrong());
        if (model != fingerprint(engine_->file)) {
            return fail(fmt::format("{}: the session was made with another model ({}) and cannot be used with {}",
                                    path_, name.substr(0, 80),
                                    std::filesystem::path(engine_->file.path()).filename().string()));
        }
        Fields option_fields(*saved);
        auto options = read_options(option_fields);
        if (!option_fields.first_wrong().empty()) return damaged_field(option_fields.first_wrong());
        options.max_tokens = options_.max_tokens.value_or(options.max_tokens);
        auto config = SequenceConfig::make(engine_, options);
        if (!config) return with_path(config.error());
        if (config->evicts()) config->options.budget = TokensPerLayer{tokens_per_layer};
        const auto plan = config->plan(tokens_per_layer);
        if (!plan) return with_path(plan.error());
        plan_ = *plan;
        if (plan_.tokens_per_layer != tokens_per_layer) return damaged_field("tokens_per_layer");
        const auto wider = widen(*config);
        if (!wider) return with_path(wider.error());
        wider_plan_ = *wider;
        state_ = std::make_unique<SequenceParts>(std::move(*config), options_.whole);
        return {};
    }

    /// Adds LoadOptions::n_more to the saved size of the cache. Returns the new plan.
    Result<CachePlan> widen(SequenceConfig& config) const {
        if (options_.n_more == 0) return plan_;
        const int64_t n_tokens = plan_.tokens_per_layer + options_.n_more;
        if (config.evicts())
            config.options.budget = TokensPerLayer{n_tokens};
        else
            config.options.max_tokens = n_tokens;
        return config.plan(n_tokens);
    }

    /// Gives every run its part of LoadOptions::n_more, after the saved state has been checked.
    void widen() {
        const int32_t slack = std::exchange(plan_, wider_plan_).slack;
        for (auto& run : runs_) run.capacity += static_cast<int32_t>(options_.n_more);
        for (const int32_t layer : state_->config.layout.sliced_layers)
            state_->report.layers[static_cast<size_t>(layer)].budget += options_.n_more + slack - plan_.slack;
    }

    Result<void> read_header(const Json& header) {
        constexpr int64_t kMaxTokens = int64_t{1} << 28;
        auto& state = *state_;
        Fields fields(header);
        fields.integer("n_tokens", state.progress.n_tokens, 1, kMaxTokens);
        // Older files do not say where tokens were evicted.
        if (state.config.evicts()) state.progress.n_settled = state.progress.n_tokens;
        if (header.contains("n_settled"))
            fields.integer("n_settled", state.progress.n_settled, 0, state.progress.n_tokens);
        fields.unsigned64("layer_bytes", state.report.layer_bytes);
        fields.text("note", state.note);
        if (header.contains("has_logits")) fields.flag("has_logits", has_logits_);  // older files have no such field
        const Json* pending = fields.find("pending");
        if (pending != nullptr && !pending->is_null()) {
            Token token = 0;
            fields.integer("pending", token, 0, state.config.hparams().n_vocab - 1);
            state.next.pending = token;
        }
        read_ring(fields);
        if (state.config.layout.sliding.n_layer > 0) {
            const int64_t most = std::min<int64_t>(state.progress.n_tokens, plan_.sliding_tokens);
            fields.integer("window_length", window_length_,
                           std::min<int64_t>({state.progress.n_tokens, state.config.hparams().n_swa, most}), most);
        }
        const auto& numbers = state.config.layout.sliced_layers;
        if (const Json* layers = fields.array("layers", numbers.size())) {
            for (size_t i = 0; i < numbers.size(); i++) {
                if (!read_layer((*layers)[i], static_cast<size_t>(numbers[i]))) fields.wrong("layers");
            }
        }
        if (state.note.size() > kMaxNoteBytes) fields.wrong("note");
        if (!fields.first_wrong().empty()) return damaged_field(fields.first_wrong());
        if (!frees_alike()) return damaged("its layers do not have the same number of free slots");
        int64_t n_slots = 0;
        for (const auto& run : runs_) n_slots += run.capacity;
        if (n_slots > plan_.tokens_per_layer * static_cast<int64_t>(runs_.size()))
            return damaged("it holds more than its budget");
        return {};
    }

    /// True if the engine could have left this many free slots. A prefill leaves the same number in every run, and a
    /// decoded token takes one from each. If heads have budgets of their own, an eviction divides what it frees in a
    /// layer equally among its heads, but it may free more in some layers.
    bool frees_alike() const {
        const auto n_free = [](const SavedRun& run) { return run.capacity - run.length; };
        const auto differ_by = [&](std::span<const SavedRun> runs, int32_t most) {
            const auto [least, largest] = std::ranges::minmax(runs, {}, n_free);
            return n_free(largest) - n_free(least) <= most;
        };
        if (!state_->config.evicts() || !state_->config.allocator().is_per_head()) return differ_by(runs_, 0);
        const auto n_head_kv = static_cast<size_t>(state_->config.layout.sliced.n_head_kv);
        for (size_t i = 0; i < runs_.size(); i += n_head_kv)
            if (!differ_by(std::span(runs_).subspan(i, n_head_kv), 1)) return false;
        return true;
    }

    void read_ring(Fields& fields) {
        const Json* saved = fields.array("ring", 2);
        if (saved == nullptr) return;
        const auto& config = state_->config;
        const int64_t n_rows = config.reads_queries() ? config.options.window : state_->cache.queries.n_rows();
        const auto row = [&](size_t i) {
            const auto& number = (*saved)[i];
            const bool good = number.is_number_unsigned() && number.get<uint64_t>() <= static_cast<uint64_t>(n_rows);
            if (!good) fields.wrong("ring");
            return good ? number.get<int32_t>() : 0;
        };
        n_queries_ = row(0);
        next_query_ = row(1);
        const bool good = next_query_ < n_rows && n_queries_ <= std::min(n_rows, state_->progress.n_tokens) &&
                          (n_queries_ == n_rows || next_query_ == n_queries_);
        if (!good) fields.wrong("ring");
    }

    bool read_layer(const Json& saved, size_t layer) {
        constexpr int64_t kMax = std::numeric_limits<int32_t>::max() / 2;
        auto& state = *state_;
        auto& report = state.report.layers[layer];
        Fields fields(saved);
        fields.number("dispersion", report.dispersion);
        fields.number("shift", report.shift);
        fields.number("preference", report.preference);
        fields.integer("budget", report.budget, 0, kMax);
        fields.integer("n_unread", state.progress.n_unread[layer], 0, state.config.sums_attention() ? n_queries_ : 0);
        const Json* runs = fields.array("runs", static_cast<size_t>(state.config.layout.sliced.n_head_kv));
        if (!fields.first_wrong().empty()) return false;
        for (const auto& run : *runs) {
            if (!run.is_array() || run.size() != 2) return false;
            for (const auto& number : run) {
                if (!number.is_number_unsigned() || number.get<uint64_t>() > kMax) return false;
            }
            runs_.push_back({.length = run[0].get<int32_t>(), .capacity = run[1].get<int32_t>()});
            if (runs_.back().length < 1 || runs_.back().length > runs_.back().capacity) return false;
        }
        return is_consistent(std::span(runs_).last(runs->size()), report.budget);
    }

    /// True if the engine could have left a layer in this state. If nothing is evicted, every KV head has the whole
    /// text. Otherwise the capacities of all KV heads add up to the layer's budget and slack, each of them holds the
    /// window, and their lengths differ only if the allocator budgets heads separately.
    bool is_consistent(std::span<const SavedRun> runs, int64_t budget) const {
        if (!state_->config.evicts()) {
            return budget == plan_.tokens_per_layer && std::ranges::all_of(runs, [&](const SavedRun& run) {
                       return run.length == state_->progress.n_tokens && run.capacity == budget;
                   });
        }
        const int64_t window = state_->config.options.window;
        int64_t room = 0;
        for (const auto& run : runs) {
            if (run.length < std::min(window, state_->progress.n_tokens)) return false;
            if (!state_->config.allocator().is_per_head() && run.length != runs.front().length) return false;
            room += run.capacity;
        }
        // A budget is the mean over the KV heads, rounded down.
        const int64_t rest = room - (budget + plan_.slack) * std::ssize(runs);
        const int64_t most = state_->config.allocator().is_per_head() ? std::ssize(runs) - 1 : 0;
        return budget >= std::min(window, plan_.tokens_per_layer - plan_.slack) && rest >= 0 && rest <= most;
    }

    uint64_t n_content_bytes() const {
        const auto& h = state_->config.hparams();
        uint64_t n = has_logits_ ? sizeof(float) * static_cast<uint64_t>(h.n_vocab) : 0;
        if (state_->config.reads_queries()) {
            const auto query = static_cast<uint64_t>(h.head_dim_k) * static_cast<uint64_t>(h.n_head);
            n += sizeof(float) * query * static_cast<uint64_t>(state_->config.layout.sliced.n_layer) *
                 static_cast<uint64_t>(n_queries_);
        }
        const auto& layout = state_->config.layout;
        const auto n_sliding = static_cast<uint64_t>(layout.sliding.n_layer) *
                               static_cast<uint64_t>(layout.sliding.n_head_kv) * static_cast<uint64_t>(window_length_);
        uint64_t n_sliced = 0;
        for (const auto& run : runs_) n_sliced += static_cast<uint64_t>(run.length);
        constexpr uint64_t kNotes = 3 * sizeof(float);
        return n + layout.recurrent_bytes() + n_sliced * (kNotes + layout.sliced.slot_bytes()) +
               n_sliding * (kNotes + layout.sliding.slot_bytes());
    }

    Result<void> read_content() {
        auto& logits = state_->next.logits;
        if (has_logits_) logits.resize(static_cast<size_t>(state_->config.hparams().n_vocab));
        if (auto r = reader_.read(std::as_writable_bytes(std::span(logits))); !r) return r;
        std::vector<int32_t> lengths;
        std::ranges::transform(runs_, std::back_inserter(lengths), &SavedRun::length);
        return read_cache(reader_, state_->cache, lengths, window_length_, state_->progress.n_tokens);
    }

    std::shared_ptr<const EngineState> engine_;
    const std::string& path_;
    SessionReader reader_;
    const LoadOptions& options_;
    std::unique_ptr<SequenceParts> state_;
    CachePlan plan_;              // as saved
    CachePlan wider_plan_;        // with LoadOptions::n_more
    int32_t n_queries_ = 0;       // number of filled rows of the query ring
    int32_t next_query_ = 0;      // ring row of the next query
    std::vector<SavedRun> runs_;  // [n_head_kv, n_layer]
    int32_t window_length_ = 0;   // number of tokens that each sliding layer holds
    bool has_logits_ = true;
};

}  // namespace

Result<void> save_session(const SequenceParts& state, const std::string& path, const SaveOptions& options) {
    if (state.status.is_broken()) return fail("an earlier text was not read to its end: there is no session to save");
    if (!state.cache.is_open() || state.progress.n_tokens == 0)
        return fail("nothing has been read yet: there is no session to save");
    if (state.note.size() > kMaxNoteBytes || readable(state.note).size() > kMaxNoteBytes)
        return fail("the session's note is longer than 8 MiB");
    auto writer = SessionWriter::create(path, write_header(state, options));
    if (!writer) return std::unexpected(writer.error());
    if (saves_logits(state, options)) {
        const auto n_vocab = static_cast<size_t>(state.config.hparams().n_vocab);
        const auto logits = std::as_bytes(std::span(state.next.logits).last(n_vocab));
        if (auto written = writer->write(logits); !written) return written;
    }
    if (!options.more_follows)
        if (auto written = write_queries(*writer, state.cache); !written) return written;
    if (auto written = write_cache(*writer, state.cache); !written) return written;
    return writer->commit();
}

namespace {

Result<SessionDescription> use_loader(std::shared_ptr<const EngineState> engine, const std::string& path,
                                      const LoadOptions& options, bool with_cache) {
    try {
        auto reader = SessionReader::open(path);
        if (!reader) return std::unexpected(reader.error());
        Loader loader(std::move(engine), path, std::move(*reader), options);
        auto done = loader.describe();
        if (done && with_cache) done = loader.load();
        if (!done) return std::unexpected(done.error());
        return loader.take();
    } catch (const std::bad_alloc&) {
        return fail(Error::Code::out_of_memory, path + ": out of memory: the session needs more than is free");
    }
}

}  // namespace

Result<std::unique_ptr<SequenceParts>> load_session(std::shared_ptr<const EngineState> engine, const std::string& path,
                                                    const LoadOptions& options) {
    auto loaded = use_loader(std::move(engine), path, options, true);
    if (!loaded) return std::unexpected(loaded.error());
    return std::move(loaded->state);
}

Result<SessionDescription> describe_session(std::shared_ptr<const EngineState> engine, const std::string& path) {
    return use_loader(std::move(engine), path, {}, false);
}

}  // namespace cake
