"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const hues = ["--first", "--second", "--third"];  // the third belongs to no policy
  const count = (n) => Math.round(n).toLocaleString("en");
  const bytes = (n) => {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (n >= 1024 && unit + 1 < units.length) { n /= 1024; unit++; }
    return `${unit === 0 ? n : n.toFixed(n < 10 ? 2 : n < 100 ? 1 : 0)} ${units[unit]}`;
  };
  const make = (tag, attributes = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), attributes);
    node.append(...children);
    return node;
  };

  byId("what").textContent = `${data.model}, reading ${data.text}: ${count(data.tokens.length)} tokens`;
  byId("foot").textContent = `Drawn with Chart.js ${Chart.version}. This page loads nothing.`;

  // Summary of each policy.
  data.policies.forEach((policy, i) => {
    const list = make("dl");
    const say = (term, text) => list.append(make("dt", { textContent: term }), make("dd", { textContent: text }));
    say("budget", `${count(policy.budget_tokens)} tokens a layer, ${bytes(policy.bytes_budget)}`);
    say("held", `${bytes(policy.bytes_now)} at the end; a full cache would hold ${bytes(policy.bytes_full)}`);
    say("peak", `${bytes(policy.bytes_peak)} with one full-length layer`);
    if (policy.answer !== "") say("answer", policy.answer);
    byId("summaries").append(make("div", { className: "card" },
      make("h3", { className: `name policy-${i}`, textContent: policy.policy }), list));
  });

  byId("without-tokens").hidden = data.policies.every((policy) => policy.layers.every((layer) => layer.n_head_kv > 0));

  // Charts follow the colour scheme of the page.
  const charts = [];
  const paint = () => {
    Chart.defaults.color = color("--soft");
    Chart.defaults.borderColor = color("--line");
    Chart.defaults.font.family = "system-ui, sans-serif";
    Chart.defaults.animation = false;
    Chart.defaults.maintainAspectRatio = false;
    while (charts.length > 0) charts.pop().destroy();
    drawBars("kept", (layer) => layer.n_head_kv > 0 ? layer.kept : null, "tokens");
    for (const figure of ["dispersion", "shift", "preference"]) drawBars(figure, (layer) => layer[figure], "");
    drawMemory();
  };

  const drawBars = (id, value, unit) => {
    const datasets = data.policies.map((policy, i) => ({
      label: policy.policy, data: policy.layers.map(value), backgroundColor: color(hues[i]),
    })).filter((set) => set.data.some((x) => x !== null));
    const card = byId(`${id}-chart`).closest(".card");
    if (datasets.length === 0) {
      card.hidden = true;  // nothing was evicted, so nothing was measured
      return;
    }
    charts.push(new Chart(byId(`${id}-chart`), {
      type: "bar",
      data: { labels: data.policies[0].layers.map((_, layer) => layer), datasets },
      options: {
        scales: { x: { title: { display: true, text: "layer" }, grid: { display: false } },
                  y: { beginAtZero: true, title: { display: unit !== "", text: unit } } },
        plugins: { legend: { display: datasets.length > 1 } },
      },
    }));
  };

  const drawMemory = () => {
    const MIB = 1 << 20;
    const datasets = data.policies.map((policy, i) => ({
      label: `${policy.policy}: layers and the staging layer`,
      data: policy.moments.map(([x, held]) => ({ x, y: held / MIB })),
      borderColor: color(hues[i]), backgroundColor: color(hues[i]), borderWidth: 2, pointRadius: 0, stepped: false,
    }));
    datasets.push({
      label: "a full cache", data: data.policies[0].moments.map(([x, , full]) => ({ x, y: full / MIB })),
      borderColor: color("--third"), backgroundColor: color("--third"), borderDash: [6, 4], borderWidth: 2, pointRadius: 0,
    });
    const nText = data.tokens.length;
    charts.push(new Chart(byId("memory-chart"), {
      type: "line",
      data: { datasets },
      options: {
        interaction: { mode: "nearest", axis: "x", intersect: false },
        scales: { x: { type: "linear", title: { display: true, text: `tokens: ${count(nText)} read, then generated` } },
                  y: { beginAtZero: true, title: { display: true, text: "MiB" } } },
      },
    }));
  };

  // The cascade: one row per stage, one column per layer.
  const shade = (share, i) => `color-mix(in srgb, var(${hues[i]}) ${(100 * Math.min(share, 1)).toFixed(1)}%, transparent)`;
  const hint = byId("hint");
  const showHint = (event, text) => {
    hint.textContent = text;
    hint.hidden = false;
    const box = hint.getBoundingClientRect();
    hint.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - box.width - 4))}px`;
    hint.style.top = `${event.clientY + 18 + box.height > innerHeight ? event.clientY - box.height - 12 : event.clientY + 18}px`;
  };
  const explain = (node, text) => {
    node.addEventListener("pointermove", (event) => {
      const said = text(event.target);
      if (said === "") hint.hidden = true; else showHint(event, said);
    });
    node.addEventListener("pointerleave", () => { hint.hidden = true; });
  };

  // A card for each policy.
  const addCard = (parent, policy, i) => {
    const card = make("div", { className: "card" }, make("h3", { className: `name policy-${i}`, textContent: policy.policy }));
    byId(parent).append(card);
    return card;
  };
  // A grid with a column for each of `layers`. `cellOf(row, column)` returns [share, hint], or null for an empty cell.
  const drawGrid = (card, { label, className, layers, nRows, cellOf, strongest, hue }) => {
    const cells = make("div", { className: "cells", role: "img" });
    cells.setAttribute("aria-label", label);
    cells.style.gridTemplateColumns = `repeat(${layers.length}, minmax(3px, 1fr))`;
    for (let row = 0; row < nRows; row++) {
      layers.forEach((_, column) => {
        const cell = make("div", { className });
        const content = cellOf(row, column);
        if (content !== null) {
          cell.style.background = shade(content[0], hue);
          cell.dataset.hint = content[1];
        }
        cells.append(cell);
      });
    }
    explain(cells, (target) => target.dataset.hint ?? "");
    card.append(cells, make("div", { className: "axis" }, make("span", { textContent: `layer ${layers[0]}` }),
      make("span", { textContent: `strongest: ${strongest}` }), make("span", { textContent: `layer ${layers.at(-1)}` })));
  };

  const most = Math.max(1, ...data.policies.flatMap((policy) => policy.stages.flat()));
  data.policies.forEach((policy, i) => {
    const card = addCard("heat", policy, i);
    if (policy.stages.length === 0) {
      card.append(make("p", { textContent: "Everything fitted: nothing had to be dropped." }));
      return;
    }
    // Layers with a sliding window keep only that window, and some layers hold no tokens: they take no part in the
    // division of the budget.
    const sliced = policy.layers.flatMap((layer, number) => layer.window > 0 || layer.n_head_kv === 0 ? [] : [number]);
    drawGrid(card, {
      label: `Budgets of ${policy.policy} at every stage`, className: "cell", layers: sliced, nRows: policy.stages.length,
      cellOf: (m, column) => column > m ? null : [policy.stages[m][column] / most,
        `after layer ${sliced[m]}: layer ${sliced[column]} may keep ${count(policy.stages[m][column])} tokens`],
      strongest: `${count(most)} tokens`, hue: i,
    });
  });

  // Layers and KV heads: one row for each head, one column for each layer that holds tokens.
  const withTokens = data.policies[0].layers.flatMap((layer, number) => layer.n_head_kv > 0 ? [number] : []);
  const nHeadsOf = (layer) => data.policies[0].layers[layer].n_head_kv;
  const drawHeads = (card, label, value, say, hue, most) => {
    const cellOf = (head, column) => {
      const layer = withTokens[column];
      return head >= nHeadsOf(layer) ? null
        : [value(layer, head) / (most || 1), `layer ${layer}, KV head ${head}: ${say(value(layer, head))}`];
    };
    drawGrid(card, { label, className: "cell head", layers: withTokens, nRows: Math.max(...withTokens.map(nHeadsOf)), cellOf,
      strongest: say(most), hue });
  };
  const mostOfHead = Math.max(...data.policies.flatMap((policy) => policy.heads.flat()));
  data.policies.forEach((policy, i) => {
    drawHeads(addCard("head-grids", policy, i), `Tokens of ${policy.policy} by layer and KV head`,
      (layer, head) => policy.heads[layer][head], (n) => `${count(n)} tokens`, i, mostOfHead);
  });

  // A text whose tokens are painted. Its parts are built when they scroll into view, since a text may be long.
  const PART = 400;
  const drawText = (card, paintToken, say) => {
    const text = make("div", { className: "text", tabIndex: 0 });
    const build = (part, begin) => {
      for (let token = begin; token < Math.min(begin + PART, data.tokens.length); token++) {
        const span = make("span", { textContent: data.tokens[token] });
        paintToken(span, token);
        span.dataset.token = token;
        part.append(span);
      }
    };
    const sight = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        sight.unobserve(entry.target);
        entry.target.textContent = "";
        build(entry.target, Number(entry.target.dataset.begin));
      }
    }, { root: text, rootMargin: "800px" });
    for (let begin = 0; begin < data.tokens.length; begin += PART) {
      const part = make("span", { textContent: data.tokens.slice(begin, begin + PART).join("") });
      part.dataset.begin = begin;
      text.append(part);
      sight.observe(part);
    }
    explain(text, (target) => target.dataset.token === undefined ? "" : say(Number(target.dataset.token)));
    card.append(text);
  };

  byId("ramp").style.background = `linear-gradient(to right, transparent, var(${hues[0]}))`;
  const nAll = data.policies[0].layers.reduce((sum, layer) => sum + layer.n_head_kv, 0);
  const holders = (policy, layer, token) => policy.kept[layer].charCodeAt(token) - 48;
  const shareOf = (policy, token) => policy.kept.reduce((sum, _, layer) => sum + holders(policy, layer, token), 0) / nAll;
  data.policies.forEach((policy, i) => {
    const paintToken = (span, token) => {
      const share = shareOf(policy, token);
      if (share > 0) span.style.background = shade(0.08 + 0.67 * share, i);
    };
    drawText(addCard("texts", policy, i), paintToken, (token) => {
      const layers = policy.kept.map((_, layer) => [layer, holders(policy, layer, token)]).filter(([, n]) => n > 0)
        .map(([layer, n]) => {
          const nHeads = policy.layers[layer].n_head_kv;
          return nHeads > 1 ? `${layer} (${n}/${nHeads})` : `${layer}`;
        });
      return `position ${count(token)}: ${layers.length === 0 ? "held by no layer" : "held by layers " + layers.join(", ")}`;
    });
  });

  // Where two policies differ.
  if (data.common !== undefined) {
    byId("both").hidden = false;
    const [first, second] = data.policies;
    const percent = (share) => share > 0 && share < 0.005 ? "less than 1 %" : `${Math.round(100 * share)} %`;
    const total = (numbers) => numbers.flat().reduce((sum, n) => sum + n, 0);
    // Of the tokens that either of them holds, the share that the other does not.
    const apart = (common, a, b) => a + b > 0 ? (a + b - 2 * common) / (a + b - common) : 0;
    const apartIn = (layer, head) => apart(data.common[layer][head], first.heads[layer][head], second.heads[layer][head]);
    byId("agreement").textContent = `Of the tokens that ${first.policy} or ${second.policy} holds in a KV head, the other does `
      + `not hold ${percent(apart(total(data.common), total(first.heads), total(second.heads)))}.`;
    drawHeads(byId("difference-grid"), "Difference by layer and KV head", apartIn, percent, 2,
      Math.max(...withTokens.flatMap((layer) => first.heads[layer].map((_, head) => apartIn(layer, head)))));
    drawText(byId("difference-text"), (span, token) => {
      const more = shareOf(first, token) - shareOf(second, token);
      if (more !== 0) span.style.background = shade(0.08 + 0.67 * Math.abs(more), more > 0 ? 0 : 1);
    }, (token) => `position ${count(token)}: ${first.policy} ${percent(shareOf(first, token))} of the KV heads, `
      + `${second.policy} ${percent(shareOf(second, token))}`);
  }

  // The same figures as a table, for readers who cannot see the charts.
  const table = make("table");
  table.append(make("tr", {}, ...["layer", ...data.policies.flatMap((p) => ["kept", "dispersion", "shift", "preference"]
    .map((figure) => data.policies.length > 1 ? `${p.policy}: ${figure}` : figure))].map((t) => make("th", { textContent: t }))));
  data.policies[0].layers.forEach((_, layer) => {
    const figure = (x) => x === null ? "–" : x.toPrecision(4);
    table.append(make("tr", {}, make("td", { textContent: layer }), ...data.policies.flatMap((p) => {
      const l = p.layers[layer];
      const held = l.kv_layer !== null ? `those of ${l.kv_layer}` : l.recurrent ? "a state" : count(l.kept);
      return [held, figure(l.dispersion), figure(l.shift), figure(l.preference)];
    }).map((t) => make("td", { textContent: t }))));
  });
  byId("table").append(table);

  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
})();
