#!/usr/bin/env python3
"""Tests the page of `cake serve` in a browser: it shows what the server reports and is accessible."""

import json
import os
import pathlib
import re
import shutil
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from server.served import CHAT, DOCUMENT, PATIENCE, said, until  # noqa: E402
from support.browser import SHIFT, Browser  # noqa: E402
from support.server import Server  # noqa: E402

PROGRAM = shutil.which("chromium")
SHOTS = os.environ.get("CAKE_PAGE_SHOTS")  # folder for screenshots of the page
N_LAYER = 6
SECONDS = 30 * PATIENCE
ENDLESS = "the rain"  # the answer goes on until the context is full, which takes many seconds

# Finds text with a contrast below 4.5 to its background. Colours are read back from a canvas, which converts every
# notation to bytes.
FAINT = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const bytes = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (above, below) => below.map((b, i) => i === 3 ? 255 : above[i] * above[3] / 255 + b * (1 - above[3] / 255));
  const behind = (node) => {
    if (node === null) return bytes("Canvas");
    const own = bytes(getComputedStyle(node).backgroundColor);
    return own[3] === 255 ? own : over(own, behind(node.parentElement));
  };
  const luminance = (colour) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const c = colour[i] / 255;
    return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (node, colour) => {
    const ground = behind(node), [a, b] = [luminance(over(bytes(colour), ground)), luminance(ground)].sort();
    return (b + 0.05) / (a + 0.05);
  };
  const found = [];
  let seen = 0;
  const look = (node, colour, text) => {
    seen++;
    const value = contrast(node, colour);
    if (!(value >= 4.5)) found.push([text.slice(0, 40), value, node.outerHTML.slice(0, 80)]);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode.parentElement;
    if (texts.currentNode.data.trim() !== "" && node.checkVisibility() && node.closest(".unseen, noscript, script") === null)
      look(node, getComputedStyle(node).color, texts.currentNode.data.trim());
  }
  for (const node of document.querySelectorAll("input, textarea")) {
    if (!node.checkVisibility()) continue;
    look(node, getComputedStyle(node).color, node.id);
    look(node, getComputedStyle(node, "::placeholder").color, node.id + "'s placeholder");
  }
  return {found, seen};
})()"""

SIDEWAYS = """[document.documentElement, ...document.querySelectorAll("body, #chat, aside, #text, #layers-scroller")]
  .filter((node) => node.scrollWidth > node.clientWidth).map((node) => [node.tagName, node.id, node.scrollWidth])"""


def setUpModule():
    global browser
    if PROGRAM is None:
        raise RuntimeError("there is no chromium: it is in packages.txt")
    browser = Browser(PROGRAM)
    unittest.addModuleCleanup(browser.close)


def number_of_bytes(text):
    """Parses a size such as "1.25 MiB", which is rounded."""
    value, unit = re.search(r"([\d.]+) (bytes|KiB|MiB|GiB)", text).groups()
    return float(value) * 1024 ** ("bytes", "KiB", "MiB", "GiB").index(unit)


def percent(share):
    return "under 1\u00a0%" if 0 < share < 0.01 else f"{round(100 * share)}\u00a0%"


class Page(unittest.TestCase):
    """Opens the page anew for each test. Allows only expected console messages, and only requests to the server."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server(*cls.FLAGS))
        cls.url = f"http://127.0.0.1:{cls.server.port}/"

    def setUp(self):
        self.expected = None  # expected console messages
        browser.view(1300, 900)
        browser.news()
        browser.open(self.url)
        browser.run("document.getElementById('message').focus()")

    def tearDown(self):
        browser.run("document.getElementById('new').click(), sessionStorage.clear()")
        complaints, urls = browser.news()
        browser.open("about:blank")
        self.assertEqual([c for c in complaints if self.expected is None or self.expected not in c], [])
        self.assertEqual([url for url in urls if not url.startswith(self.url)], [])

    def text(self, selector):
        return browser.run(f"document.querySelector({json.dumps(selector)})?.textContent")

    def texts(self, selector):
        return browser.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.textContent)")

    def is_shown(self, selector):
        return browser.run(f"document.querySelector({json.dumps(selector)})?.checkVisibility() ?? false")

    def set(self, **settings):
        for name, value in settings.items():
            browser.run(f"""(() => {{
                const field = document.getElementById({json.dumps(name.replace("_", "-"))});
                field.value = {json.dumps(str(value))};
                field.dispatchEvent(new Event("change"));
            }})()""")

    def paste(self, text):
        """Pastes a text. Returns whether the page leaves it to the browser, which ignores events from scripts."""
        return browser.run(f"""(() => {{
            const data = new DataTransfer(), box = document.getElementById("message");
            data.setData("text/plain", {json.dumps(text)});
            return box.dispatchEvent(new ClipboardEvent("paste", {{clipboardData: data, bubbles: true, cancelable: true}}));
        }})()""")

    def ask(self, question):
        browser.run("(document.getElementById('message').focus(), performance.clearResourceTimings())")
        browser.type(question)
        browser.press("Enter")

    def finish(self, refused=False):
        """Waits for the answer and for the memory display, whose last request is the one for /slots."""
        browser.wait("document.getElementById('stop').hidden", SECONDS)
        if not refused:
            browser.wait("performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('/slots'))")

    def read_document(self, question="What is the code of the silver falcon?", text=DOCUMENT, n=12):
        """Pastes a text and asks about it. Returns the server's report on the sequence, with the text of each token."""
        self.set(temperature=0, max_tokens=n)
        self.paste(text)
        self.ask(question)
        self.finish()
        slot = self.server.get(f"/slots/{self.shown()}?pieces=1")
        n = len("".join(slot["pieces"]).encode("utf-16-le")) // 2
        browser.wait(f"document.getElementById('text').textContent.length === {n}")
        browser.wait("document.querySelectorAll('#text span:not([data-level])').length === 0")
        return slot

    def shown(self):
        """Returns the id of the completion whose memory is shown."""
        return browser.run("(dispatchEvent(new Event('pagehide')), JSON.parse(sessionStorage.getItem('shown')).id)")


class Conversation(Page):
    FLAGS = ("-c", 20_000, "--kv-budget", 128)

    def test_an_answer_streams_in(self):
        browser.run("""(window.lengths = new Set(), new MutationObserver(() =>
            lengths.add(document.querySelector('.answer')?.textContent.length ?? 0))
            .observe(document.getElementById('messages'), {childList: true, characterData: true, subtree: true}))""")
        self.set(temperature=0, max_tokens=600)
        self.ask("Tell me a story")
        self.finish()
        messages = [{"role": "user", "content": "Tell me a story"}]
        answer = self.server.ask("POST", CHAT, {"messages": messages, "temperature": 0, "max_tokens": 600})[2]
        self.assertEqual(self.texts(".answer"), [said(answer).strip("\n")])
        self.assertGreater(browser.run("lengths.size"), 2, "it comes as it is written")
        self.assertEqual(self.texts("#messages .user .plain"), ["Tell me a story"])
        self.assertEqual(self.texts(".state"), ["The answer stops here because it reached its longest length."])
        self.assertEqual(self.text("h1"), "cake cake-mini")

    def test_the_next_question_goes_on(self):
        self.set(temperature=0, max_tokens=8)
        self.ask("What is the code?")
        self.finish()
        self.ask("Why?")
        self.finish()
        self.assertEqual(len(self.texts("#messages > li")), 4)
        slot = self.server.get(f"/slots/{self.shown()}?pieces=1")
        text = "".join(slot["pieces"])
        for part in ("What is the code?", self.texts(".answer")[0], "Why?"):
            self.assertIn(part, text)
            text = text[text.index(part):]
        n_cached = int(re.search(r"([\d,]+) of [\d,]+ tokens were still in memory", self.text("#figures"))[1])
        self.assertGreater(n_cached, 30)

    def test_stop_ends_it_and_keeps_what_was_written(self):
        for way in ("the button", "Escape"):
            with self.subTest(way):
                browser.click("#new")
                self.set(temperature=0)
                self.ask(ENDLESS)
                browser.wait("document.querySelector('.answer')?.textContent.length > 100", SECONDS)
                if way == "Escape":
                    browser.press("Escape")
                else:
                    browser.click("#stop")
                browser.wait("!document.getElementById('send').hidden", 2 * PATIENCE)
                self.assertTrue(until(lambda: self.server.metric("cake_requests_generating") == 0))
                self.assertEqual(self.texts(".state")[-1], "Stopped.")
                self.assertGreater(len(self.texts(".answer")[-1]), 100)
                self.assertEqual(browser.run("document.activeElement.id"), "message")

    def test_a_new_conversation_ends_the_old_one(self):
        self.ask(ENDLESS)
        browser.wait("document.querySelector('.answer')?.textContent.length > 100", SECONDS)
        browser.click("#new")
        self.assertTrue(until(lambda: self.server.metric("cake_requests_generating") == 0))
        self.assertEqual(self.texts("#messages > li"), [])
        self.assertTrue(self.is_shown("#empty") and not self.is_shown("#holdings") and self.is_shown("#send"))

    def test_a_long_text_that_is_pasted_becomes_a_document_and_is_read(self):
        self.set(temperature=0, max_tokens=4)
        self.paste(DOCUMENT)
        self.assertEqual(browser.run("document.getElementById('message').value"), "")
        self.assertEqual(self.texts("#documents .name"), ["Pasted text"])
        size = number_of_bytes(self.text("#documents .size"))
        self.assertAlmostEqual(size / len(DOCUMENT.encode()), 1, delta=0.01)
        browser.press("Enter")
        self.assertIn("question", self.text("#note"))
        self.ask("What is the code of the silver falcon?")
        self.finish()
        self.assertEqual(self.texts("#messages .documents .name"), ["Pasted text"])
        text = "".join(self.server.get(f"/slots/{self.shown()}?pieces=1")["pieces"])
        self.assertIn(DOCUMENT.strip() + "\n\nWhat is the code of the silver falcon?", re.sub(r"\n{3,}", "\n\n", text))

    def test_a_line_more_and_a_short_text_stay_in_the_box(self):
        browser.type("One")
        browser.press("Enter", SHIFT)
        browser.type("two")
        self.assertTrue(self.paste("short"))
        self.assertEqual(browser.run("document.getElementById('message').value"), "One\ntwo")
        self.assertEqual((self.texts("#messages > li"), self.is_shown("#documents")), ([], False))

    def test_text_is_never_markup(self):
        hostile = "<img src=x onerror='window.hurt = 1'><script>window.hurt = 1</script><b>bold</b> &amp; " * 40
        slot = self.read_document("</textarea><b onclick='1'>?", hostile)
        self.assertEqual(self.text("#text"), "".join(slot["pieces"]))
        self.assertIn("<b onclick='1'>?", self.text("#messages .user .plain"))
        self.assertEqual(browser.run("[window.hurt ?? 0, document.querySelectorAll('main img, aside img, b').length]"), [0, 0])

    def test_a_prompt_that_is_too_long_is_explained(self):
        self.expected = "a status of 400"
        self.paste(DOCUMENT * 6)
        self.ask("What is the code?")
        self.finish(refused=True)
        [error] = self.texts("#messages .error:not([hidden])")
        self.assertRegex(error, r"\AThe prompt has 2\d{4} tokens, [^\n]*20000[^\n]*\.\Z")
        self.assertEqual(self.text("#again"), "Try again")
        browser.click("#new")
        self.set(max_tokens=2)
        self.ask("Why?")
        self.finish()
        self.assertEqual(self.texts("#messages .error:not([hidden])"), [])

    def test_a_setting_that_the_server_refuses_is_explained(self):
        self.expected = "a status of 400"
        for settings, word in (({"policy": "best"}, 'There is no policy "best"'),
                               ({"policy": "", "kv_budget": 5}, "at least 32 tokens")):
            self.set(**settings)
            self.ask("Why?")
            self.finish(refused=True)
            self.assertIn(word, self.texts("#messages .error:not([hidden])")[-1])

    def test_a_reload_loses_nothing(self):
        slot = self.read_document()
        before = [self.texts(selector) for selector in ("#messages > li", "#figures dd", "#layers td", "#memory-ratio")]
        browser.call("Page.reload")
        browser.wait("document.getElementById('text')?.textContent.length > 1000", SECONDS)
        browser.wait("document.querySelectorAll('#text span:not([data-level])').length === 0")
        self.assertEqual([self.texts(s) for s in ("#messages > li", "#figures dd", "#layers td", "#memory-ratio")], before)
        self.assertEqual(self.text("#text"), "".join(slot["pieces"]))
        self.assertEqual(browser.run("document.getElementById('max-tokens').value"), "12")


class WhereTheCakeGoes(Page):
    FLAGS = ("-c", 20_000, "--kv-budget", 128)

    def test_layers(self):
        slot = self.read_document()
        layers = slot["layers"]
        self.assertEqual(len(layers), N_LAYER)
        self.assertEqual(self.texts("#layers th[scope=row]"), [f"layer {i}" for i in range(N_LAYER)])
        self.assertEqual(self.texts("#layers tbody td:last-child"),
                         [f"{layer['kept']} of {layer['budget']}" for layer in layers])
        widths = browser.run("""[...document.querySelectorAll("#layers .bar")].map((bar) =>
            [bar.parentElement, bar, bar.firstChild].map((node) => node.getBoundingClientRect().width))""")
        most = max(max(layer["kept"], layer["budget"]) for layer in layers)
        for layer, (cell, outline, filled) in zip(layers, widths, strict=True):
            may = max(layer["kept"], layer["budget"])
            self.assertAlmostEqual(outline / max(w[1] for w in widths), may / most, delta=0.02)
            self.assertAlmostEqual(filled / (outline - 2), layer["kept"] / may, delta=0.02)
            self.assertLessEqual(outline, cell)

    def test_bytes(self):
        kv = self.read_document()["kv"]
        for selector, n in (("#held-bytes", kv["bytes_now"]), ("#full-bytes", kv["bytes_full_cache"]),
                            ("#server-memory", kv["bytes_allocated"])):
            self.assertAlmostEqual(number_of_bytes(self.text(selector)) / n, 1, delta=0.006)
        share = kv["bytes_now"] / kv["bytes_full_cache"]
        self.assertTrue(self.text("#memory-ratio").endswith(": " + percent(share)))
        held, full = browser.run("""["held-bar", "full-bar"].map((id) =>
            document.getElementById(id).getBoundingClientRect().width)""")
        self.assertAlmostEqual(held / full, share, delta=0.01)
        of_all = self.server.get("/slots")["kv"]
        browser.wait("document.getElementById('server-memory').textContent.includes('All conversations')")
        bound = number_of_bytes(self.text("#server-memory").split("at most")[1])
        self.assertAlmostEqual(bound / of_all["bytes_bound"], 1, delta=0.006)

    def test_figures(self):
        slot = self.read_document(n=4)
        self.assertEqual(self.text("#progress"), f"Read {slot['prompt_tokens']:,} tokens, and answered with 4.")
        figures = dict(zip(self.texts("#figures dt"), self.texts("#figures dd"), strict=True))
        self.assertEqual(figures["policy"], "cake, 128 tokens a layer")
        self.assertEqual(figures["prompt"], f"{slot['prompt_tokens']:,} tokens, all read anew")
        self.assertRegex(figures["time to the first token"], r"\A\d+(\.\d)? s\Z")
        self.assertRegex(figures["speed of the answer"], r"\A[\d,.]+ tokens a second\Z")

    def test_the_text_and_its_shades(self):
        slot = self.read_document()
        self.assertEqual(self.texts("#text span"), slot["pieces"])
        self.assertIn(DOCUMENT, self.text("#text"))
        levels = browser.run("[...document.querySelectorAll('#text span')].map((node) => Number(node.dataset.level))")
        held = slot["held"]
        self.assertEqual(levels, [0 if n == 0 else 5 if n == N_LAYER else -(-4 * n // N_LAYER) for n in held])
        self.assertEqual(set(levels), {0, 1, 2, 3, 4, 5})
        some, all_of_them = (percent(sum(n >= least for n in held) / len(held)) for least in (1, N_LAYER))
        self.assertEqual(self.text("#held-summary"), f"{some} of {len(held):,} tokens are still held by some layer, "
                                                     f"{all_of_them} by all {N_LAYER} layers.")
        colours = browser.run("""[...document.querySelectorAll("#legend li")].map((node) =>
            getComputedStyle(node).backgroundColor)""")
        self.assertEqual(len(set(colours)), 6)
        of_text = browser.run("""Object.fromEntries([...document.querySelectorAll("#text span")].map((node) =>
            [node.dataset.level, getComputedStyle(node).backgroundColor]))""")
        self.assertEqual([of_text[str(level)] for level in range(1, 6)], colours[1:])

    def test_a_word_tells_who_holds_it(self):
        held = self.read_document()["held"]
        browser.run("document.getElementById('text').focus()")
        for key, token in (("ArrowRight", 0), ("ArrowRight", 1), ("End", len(held) - 1), ("ArrowLeft", len(held) - 2),
                           ("Home", 0)):
            browser.press(key)
            who = "none" if held[token] == 0 else held[token]
            self.assertEqual(self.text("#passage"), f"Token {token:,}: held by {who} of {N_LAYER} layers.")
            self.assertTrue(browser.run("""(() => {
                const [word, view] = ["#text .here", "#text"].map((at) => document.querySelector(at).getBoundingClientRect());
                return word.top >= view.top - 1 && word.bottom <= view.bottom + 1;
            })()"""), "it is in sight")
        token = browser.run("""(() => {
            document.getElementById("text").scrollTop = 0;
            const node = document.querySelectorAll("#text span")[30], at = node.getBoundingClientRect();
            node.scrollIntoView({block: "nearest"});
            return [at.x + at.width / 2, at.y + at.height / 2];
        })()""")
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=token[0], y=token[1])
        self.assertRegex(self.text("#passage"), r"\AToken \d+: held by (none|\d) of 6 layers\.\Z")

    def test_while_it_is_read(self):
        browser.run("""(() => {
            const progress = document.getElementById("progress");
            window.seen = new Set();
            new MutationObserver(() => seen.add(progress.textContent)).observe(progress, {childList: true});
        })()""")
        self.set(max_tokens=2)
        self.paste(DOCUMENT * 2)
        self.ask("What is the code of the silver falcon?")
        browser.wait("!document.getElementById('reading').hidden", SECONDS)
        value, most = browser.run("['value', 'max'].map((name) => document.getElementById('reading')[name])")
        self.assertTrue(0 <= value <= most)
        self.finish()
        self.assertFalse(self.is_shown("#reading"))
        reading = [re.match(r"Reading: ([\d,]+) of ([\d,]+) tokens", text) for text in browser.run("[...seen]")]
        counts = [int(match[1].replace(",", "")) for match in reading if match]
        self.assertEqual(counts, sorted(counts))
        self.assertTrue(counts)


class Looks(Page):
    FLAGS = ("-c", 20_000, "--kv-budget", 128)

    def shoot(self, name):
        if SHOTS:
            pathlib.Path(SHOTS).mkdir(parents=True, exist_ok=True)
            browser.screenshot(pathlib.Path(SHOTS) / f"{name}.png")

    def stages(self):
        """Brings the page into each of its states in turn and yields the name of the state."""
        yield "empty"
        self.set(temperature=0)
        self.ask(ENDLESS)
        browser.wait("document.querySelector('.answer')?.textContent.length > 300", SECONDS)
        yield "answering"
        browser.press("Escape")
        self.finish()
        self.read_document()
        yield "read"
        self.set(kv_budget=5)
        self.ask("word " * 60 + "longword" * 60)
        self.finish(refused=True)
        self.paste(DOCUMENT)
        browser.press("Enter")
        browser.run("(document.getElementById('settings').open = true, document.getElementById('key-form').hidden = false)")
        yield "everything"

    def test_text_is_readable_and_nothing_scrolls_sideways(self):
        self.expected = "a status of 400"
        for stage in self.stages():
            for dark in (False, True):
                for width, height in ((320, 640), (360, 740), (900, 800), (1600, 1000)):
                    with self.subTest(stage=stage, width=width, dark=dark):
                        browser.view(width, height, dark)
                        self.shoot(f"{width}-{'dark' if dark else 'light'}-{stage}")
                        self.assertEqual(browser.run(SIDEWAYS), [])
                        if width >= 900:  # two panes that scroll separately
                            self.assertEqual(browser.run("document.documentElement.scrollHeight"), height)
                with self.subTest(stage=stage, dark=dark):
                    ground = browser.run("getComputedStyle(document.body).backgroundColor")
                    self.assertEqual(ground == "rgb(255, 255, 255)", not dark)
                    contrast = browser.run(FAINT)
                    self.assertGreater(contrast["seen"], 500 if stage in ("read", "everything") else 12)
                    self.assertEqual(contrast["found"], [])
            browser.view(360, 740)
            browser.run("document.querySelector('aside').scrollIntoView()")
            self.shoot(f"360-light-{stage}-cake")
            browser.view(1300, 900)

    def test_the_keyboard_alone_is_enough(self):
        self.set(temperature=0)
        browser.open(self.url)
        browser.press("Tab")
        self.assertEqual(browser.run("document.activeElement.className"), "skip")
        browser.press("Enter")
        self.assertEqual(browser.run("document.activeElement.id"), "message")
        browser.type(ENDLESS)
        browser.press("Enter")
        browser.wait("document.querySelector('.answer')?.textContent.length > 100", SECONDS)
        browser.press("Escape")
        self.finish()
        reached = set()
        for _ in range(40):  # enough to go through all elements twice
            browser.press("Tab")
            name, outline = browser.run("""(() => {
                const node = document.activeElement, style = getComputedStyle(node);
                return [node.id || node.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1];
            })()""")
            self.assertTrue(outline or name == "BODY", f"that the focus is on {name} cannot be seen")
            reached.add(name)
        wanted = browser.run("""[...document.querySelectorAll("a, button, input:not([type=file]), summary, textarea, [tabindex]")]
            .filter((node) => node.checkVisibility()).map((node) => node.id || node.tagName)""")
        self.assertEqual(sorted(set(wanted) - reached), [])
        self.assertTrue({"new", "SUMMARY", "message", "add", "send", "again", "layers-scroller", "text"} <= reached, reached)

    def test_everything_has_a_name(self):
        self.read_document(n=4)
        browser.run("document.getElementById('settings').open = true")
        nameless = browser.run("""[...document.querySelectorAll(
                "button, input:not([type=file]), textarea, section, main, aside, ol, [role=group], progress")]
            .filter((node) => node.checkVisibility() && !node.labels?.length && !node.textContent.trim() &&
                    !node.ariaLabel && !node.hasAttribute("aria-labelledby")).map((node) => node.outerHTML.slice(0, 80))""")
        self.assertEqual(nameless, [])
        lost = browser.run("""["aria-labelledby", "aria-describedby"].flatMap((name) =>
            [...document.querySelectorAll(`[${name}]`)].map((node) => node.getAttribute(name)))
            .filter((id) => document.getElementById(id) === null)""")
        self.assertEqual(lost, [])
        self.assertEqual(browser.run("document.documentElement.lang"), "en")
        browser.wait("document.getElementById('announcement').textContent.length > 0")


class Key(Page):
    FLAGS = ("--api-key", "sesame")

    def test_a_server_with_a_key_asks_for_it(self):
        self.expected = "a status of 401"
        browser.open(self.url)
        browser.wait("!document.getElementById('key-form').hidden")
        self.assertEqual(browser.run("document.activeElement.id"), "key")
        browser.type("mustard")
        browser.press("Enter")
        browser.wait("!document.getElementById('key-form').hidden")
        browser.run("document.getElementById('key').select()")
        browser.type("sesame")
        browser.press("Enter")
        browser.wait("document.getElementById('model').textContent === 'cake-mini'")
        self.assertFalse(self.is_shown("#key-form"))
        self.set(max_tokens=4)
        self.ask("Why?")
        self.finish()
        self.assertEqual(self.texts("#messages .error:not([hidden])"), [])
        self.assertGreater(len(self.texts(".answer")[0]), 0)
        browser.wait("document.getElementById('text').textContent.includes('Why?')")
        self.assertEqual(browser.run("location.search + location.hash"), "")

    def test_a_question_that_was_refused_is_asked_again_with_the_key(self):
        self.expected = "a status of 401"
        browser.run("document.getElementById('key-form').hidden = true")
        self.set(max_tokens=4)
        self.ask("Why?")
        browser.wait("document.querySelector('#messages .error:not([hidden])')?.textContent.includes('API key')")
        self.assertEqual(browser.run("document.activeElement.id"), "key")
        browser.type("sesame")
        browser.run("performance.clearResourceTimings()")
        browser.press("Enter")
        browser.wait("document.querySelector('.answer')?.textContent.length > 0", SECONDS)
        self.finish()
        self.assertEqual(self.texts("#messages .error:not([hidden])"), [])
        self.assertEqual(len(self.texts("#messages > li")), 2)


if __name__ == "__main__":
    unittest.main()
