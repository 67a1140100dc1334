#include "eval/plot.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace cake::eval {

namespace {

// Palette of Okabe and Ito: colour-blind readers can tell the colours apart.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                    "#E69F00", "#56B4E9", "#000000", "#7F7F7F"};
constexpr double kMinKl = 1e-6;
constexpr int kPanelWidth = 360;
constexpr int kPanelHeight = 300;

std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text) {
        if (c == '\'') result += '\'';
        if (static_cast<unsigned char>(c) >= ' ') result += c;
    }
    return result + "'";
}

template <typename T, typename Key>
std::vector<T> distinct(std::span<const Row> rows, Key key) {
    std::vector<T> result;
    for (const auto& row : rows) {
        if (const T value = key(row); !std::ranges::contains(result, value)) result.push_back(value);
    }
    return result;
}

/// gnuplot commands that start a page with a grid of panels.
std::string begin_page(size_t n_panels, const std::string& title) {
    const auto columns = std::min<size_t>(n_panels, 3);
    const auto rows = (n_panels + columns - 1) / columns;
    return fmt::format(
        "set terminal svg size {},{} font 'sans,12' background '#ffffff'\n"
        "set multiplot layout {},{} title {} font 'sans,14' noenhanced\n",
        static_cast<int>(columns) * kPanelWidth, static_cast<int>(rows) * kPanelHeight + 30, rows, columns,
        quoted(title));
}

std::string panel_name(const Row& row) {
    std::string name = row.subtask;
    if (row.length_tokens > 0) name += fmt::format("{}{} tokens", name.empty() ? "" : ", ", row.length_tokens);
    return name;
}

std::string axis_name(const std::string& figure) {
    if (figure == "kl") return "KL to the full cache, nats per token";
    return figure == "score" ? "score (1: all correct)" : figure;
}

/// One panel with a line for each policy.
std::string panel(std::span<const Row> rows, const std::string& name, std::span<const std::string> policies,
                  std::pair<int64_t, int64_t> budgets) {
    std::string data;
    std::string plots;
    std::string figure;
    for (size_t p = 0; p < policies.size(); p++) {
        const auto id = fmt::format("$d{}", p);
        std::string block = id + " << EOD\n";
        bool any = false;
        for (const auto& row : rows) {
            if (row.policy != policies[p] || panel_name(row) != name) continue;
            const Figure& f = row.figures.front();
            const Interval interval = f.interval.value_or(Interval{f.value, f.value});
            figure = f.name;
            any = true;
            // A logarithmic axis cannot show 0.
            const double floor = f.name == "kl" ? kMinKl : -1e300;
            const auto point = [&](int64_t x) {
                block += fmt::format("{} {} {} {}\n", x, std::max(f.value, floor), std::max(interval.low, floor),
                                     std::max(interval.high, floor));
            };
            if (row.budget > 0) {
                point(row.budget);
            } else {
                point(budgets.first);
                point(budgets.second);
            }
        }
        if (!any) continue;
        data += block + "EOD\n";
        const char* colour = kColours[p % std::size(kColours)];
        const bool level =
            std::ranges::none_of(rows, [&](const Row& r) { return r.policy == policies[p] && r.budget > 0; });
        if (!plots.empty()) plots += ", ";
        plots += level ? fmt::format("{} using 1:2 with lines dt 2 lw 1.5 lc rgb '{}' notitle", id, colour)
                       : fmt::format(
                             "{0} using 1:2 with linespoints pt 7 ps 0.5 lw 1.8 lc rgb '{1}' notitle, {0} using "
                             "1:2:3:4 with yerrorbars pt 0 lw 0.8 lc rgb '{1}' notitle",
                             id, colour);
    }
    std::string setup = fmt::format("{}set title {} noenhanced\nset ylabel {} noenhanced\n", data, quoted(name),
                                    quoted(axis_name(figure)));
    setup += figure == "kl" ? "set logscale y\nset format y '10^{%L}'\nset autoscale y\n"
                            : (figure == "score" ? "set yrange [0:1.05]\n" : "set autoscale y\n");
    return setup + "plot " + plots + "\n";
}

/// A panel without data that holds the legend of all lines.
std::string legend(std::span<const Row> rows, std::span<const std::string> policies) {
    std::string plots;
    for (size_t p = 0; p < policies.size(); p++) {
        const bool level =
            std::ranges::none_of(rows, [&](const Row& r) { return r.policy == policies[p] && r.budget > 0; });
        plots += fmt::format("{}NaN with {} lw 1.8 lc rgb '{}' title {} noenhanced", plots.empty() ? "" : ", ",
                             level ? "lines dt 2" : "linespoints pt 7 ps 0.5", kColours[p % std::size(kColours)],
                             quoted(policies[p]));
    }
    return "unset logscale\nunset title\nunset border\nunset tics\nunset xlabel\nunset ylabel\nset xrange [0:1]\nset "
           "yrange "
           "[0:1]\nset key center center vertical Left reverse samplen 3 spacing 1.4\nplot " +
           plots + "\n";
}

struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

/// Runs gnuplot on the commands and writes its output to `svg`, if not null. The path of the picture is not part of the
/// commands, so it needs no quoting.
Result<void> run_gnuplot(const std::string& commands, std::FILE* svg) {
    const File script(std::tmpfile());
    const File complaints(std::tmpfile());
    if (!script || !complaints) return fail(fmt::format("cannot create a temporary file: {}", std::strerror(errno)));
    if (std::fwrite(commands.data(), 1, commands.size(), script.get()) != commands.size() ||
        std::fflush(script.get()) != 0 || std::fseek(script.get(), 0, SEEK_SET) != 0) {
        return fail(fmt::format("cannot write a temporary file: {}", std::strerror(errno)));
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ::fileno(script.get()), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ::fileno(svg != nullptr ? svg : complaints.get()), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ::fileno(complaints.get()), STDERR_FILENO);
    char name[] = "gnuplot";
    char* const arguments[] = {name, nullptr};
    pid_t process = 0;
    const int error = ::posix_spawnp(&process, name, &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return fail(fmt::format("gnuplot cannot be started: {}", std::strerror(error)));
    int status = 0;
    while (::waitpid(process, &status, 0) < 0 && errno == EINTR) {
    }
    if (status == 0) return {};
    std::string said(300, '\0');
    const bool told = std::fseek(complaints.get(), 0, SEEK_SET) == 0;
    said.resize(told ? std::fread(said.data(), 1, said.size(), complaints.get()) : 0);
    return fail("gnuplot could not draw it: " + said);
}

}  // namespace

std::string line_plot(std::span<const Row> rows, const std::string& title) {
    std::vector<Row> pooled;
    std::ranges::copy_if(rows, std::back_inserter(pooled), [](const Row& r) { return r.depth < 0; });
    const auto names = distinct<std::string>(pooled, panel_name);
    const auto policies = distinct<std::string>(pooled, [](const Row& r) { return r.policy; });
    auto budgets = distinct<int64_t>(pooled, [](const Row& r) { return r.budget; });
    std::erase(budgets, 0);
    std::ranges::sort(budgets);
    if (budgets.empty()) budgets = {1, 2};
    std::string tics;
    for (const int64_t b : budgets) tics += fmt::format("{}'{}' {}", tics.empty() ? "" : ", ", b, b);

    std::string text = begin_page(names.size() + 1, title);
    text += fmt::format(
        "set logscale x 2\nset xrange [{}:{}]\nset xtics ({})\nset xlabel 'tokens kept per layer'\n"
        "set grid lc rgb '#dddddd'\nunset key\n",
        static_cast<double>(budgets.front()) / 1.15, static_cast<double>(budgets.back()) * 1.15, tics);
    for (const auto& name : names) text += panel(pooled, name, policies, {budgets.front(), budgets.back()});
    return text + legend(pooled, policies) + "unset multiplot\n";
}

std::string heat_map(std::span<const Row> rows, const std::string& title) {
    std::vector<Row> cells;
    std::ranges::copy_if(rows, std::back_inserter(cells), [](const Row& r) { return r.depth >= 0; });
    const auto setting = [](const Row& r) {
        return r.budget > 0 ? fmt::format("{}, {} tokens a layer", r.policy, r.budget) : r.policy;
    };
    const auto settings = distinct<std::string>(cells, setting);
    const auto lengths = distinct<int64_t>(cells, [](const Row& r) { return r.length_tokens; });
    const auto depths = distinct<double>(cells, [](const Row& r) { return r.depth; });
    const auto tics = [](const auto& values, auto show) {
        std::string text;
        for (size_t i = 0; i < values.size(); i++)
            text += fmt::format("{}'{}' {}", text.empty() ? "" : ", ", show(values[i]), i);
        return text;
    };
    const auto place = [](const auto& values, auto value) { return std::ranges::find(values, value) - values.begin(); };

    std::string text = begin_page(settings.size(), title);
    text += fmt::format(
        "set palette defined (0 '#d6604d', 0.5 '#fddbc7', 0.75 '#d1e5f0', 1 '#67a9cf')\nset cbrange [0:1]\nunset key\n"
        "set xlabel 'length of the text, tokens'\nset ylabel 'depth of the fact'\nset xtics ({})\nset ytics ({})\n"
        "set xrange [-0.5:{}]\nset yrange [{}:-0.5]\nset cblabel 'score'\n",
        tics(lengths, [](int64_t n) { return std::to_string(n); }),
        tics(depths, [](double d) { return fmt::format("{:.0f}%%", d * 100); }),
        static_cast<double>(lengths.size()) - 0.5, static_cast<double>(depths.size()) - 0.5);
    for (size_t s = 0; s < settings.size(); s++) {
        text += fmt::format("$h{} << EOD\n", s);
        for (const auto& row : cells) {
            if (setting(row) != settings[s]) continue;
            const double value = row.figures.front().value;
            text += fmt::format("{} {} {} {:.2f}\n", place(lengths, row.length_tokens), place(depths, row.depth), value,
                                value);
        }
        text += fmt::format(
            "EOD\nset title {} noenhanced\nplot $h{} using 1:2:(0.5):(0.5):3 with boxxyerror fs solid noborder lc "
            "palette, "
            "$h{} using 1:2:(sprintf('%.2f', $3)) with labels font ',10'\n",
            quoted(settings[s]), s, s);
    }
    return text + "unset multiplot\n";
}

Result<void> check_plotter() {
    const auto there = run_gnuplot("", nullptr);
    return there ? Result<void>()
                 : fail("--plot draws with gnuplot, which is not installed: install gnuplot-nox, or use -o csv");
}

Result<void> draw_svg(const std::string& commands, const std::string& path) {
    const std::string unfinished = fmt::format("{}.part-{}", path, ::getpid());
    const File svg(std::fopen(unfinished.c_str(), "wb"));
    if (!svg) return fail(fmt::format("{}: {}", path, std::strerror(errno)));
    auto drawn = run_gnuplot(commands, svg.get());
    if (drawn && std::rename(unfinished.c_str(), path.c_str()) == 0) return {};
    if (drawn) drawn = fail(std::strerror(errno));
    std::remove(unfinished.c_str());
    return fail(drawn.error().code, fmt::format("{}: {}", path, drawn.error().message));
}

}  // namespace cake::eval
