#!/usr/bin/env python3
"""Tests the page of `cake serve` in a browser: it shows what the server reports and is accessible."""

import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from server.served import CHAT, DOCUMENT, PATIENCE, said, until  # noqa: E402
from support.browser import SHIFT, Browser  # noqa: E402
from support.cake_process import BUNDLED, cake  # noqa: E402
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

SIDEWAYS = """[document.documentElement, ...document.querySelectorAll(
    "body, header, #list, #chat, #thread, #foot, aside, #text, #layers-scroller, dialog")]
  .filter((node) => node.scrollWidth > node.clientWidth).map((node) => [node.tagName, node.id, node.scrollWidth])"""

# Buttons and fields that are smaller than a finger.
SMALL_TARGETS = """[...document.querySelectorAll("button, input, select, textarea, summary")]
  .filter((node) => node.checkVisibility() && (node.offsetWidth < 40 || node.offsetHeight < 40))
  .map((node) => [node.outerHTML.slice(0, 80), node.offsetWidth, node.offsetHeight])"""


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
        complaints, urls = browser.news()
        browser.open(self.url + "page/icon.svg")  # this ends requests, and the page stores the conversations
        browser.run("(localStorage.clear(), sessionStorage.clear())")
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
                ["input", "change"].forEach((name) => field.dispatchEvent(new Event(name, {{bubbles: true}})));
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
            browser.wait("""document.getElementById("progress").textContent.startsWith("Read ") &&
                performance.getEntriesByType("resource").some((entry) => entry.name.endsWith("/slots"))""")

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
        return self.stored(json.loads(browser.run("sessionStorage.getItem('cake:open')")))["shown"]["id"]

    def stored(self, conversation):
        return json.loads(browser.run(f"localStorage.getItem({json.dumps('cake:conversation:' + conversation)})"))

    def drop(self, **files):
        """Drops files onto the page: texts, or sizes of files without zero bytes."""
        browser.run(f"""(() => {{
            const data = new DataTransfer();
            for (const [name, content] of {json.dumps(list(files.items()))})
                data.items.add(new File([typeof content === "string" ? content : new Uint8Array(content).fill(65)],
                                        name.replace("_", ".")));
            dispatchEvent(new DragEvent("drop", {{dataTransfer: data, bubbles: true, cancelable: true}}));
        }})()""")


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

    def test_a_new_conversation_is_empty(self):
        self.set(max_tokens=4)
        self.ask("Why?")
        self.finish()
        browser.click("#new")
        self.assertEqual(self.texts("#messages > li"), [])
        self.assertTrue(self.is_shown("#empty") and self.is_shown("#send") and not self.is_shown("#text-section"))
        self.assertEqual(self.texts("#layers tbody td:last-child"), ["empty"] * N_LAYER)

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

    def test_dropped_files_become_documents(self):
        self.set(max_tokens=2)
        self.drop(falcon_txt="The falcon is silver.", notes_md="It has a code: 417.", picture_png="a\0b", empty_txt="",
                  large_log=31 << 20)
        browser.wait("!document.getElementById('note').hidden")
        self.assertEqual(self.texts("#documents .name"), ["falcon.txt", "notes.md"])
        self.assertEqual(self.texts("#documents .size"), ["21 bytes", "19 bytes"])
        note = self.text("#note")
        for sentence in ("picture.png is not a text file", "empty.txt is empty.", "large.log has 31.0 MiB: the documents"):
            self.assertIn(sentence, note)
        browser.click("#documents li:nth-child(2) button")
        self.assertEqual(self.texts("#documents .name"), ["falcon.txt"])
        self.ask("Which colour is it?")
        self.finish()
        self.assertEqual(self.texts("#messages .documents .name"), ["falcon.txt"])
        text = "".join(self.server.get(f"/slots/{self.shown()}?pieces=1")["pieces"])
        self.assertIn("The falcon is silver.", text)
        self.assertNotIn("417", text)

    def test_a_document_is_read_with_progress(self):
        self.set(max_tokens=2)
        self.drop(document_txt=DOCUMENT * 2)
        browser.wait("!document.getElementById('documents').hidden")
        self.ask("What is the code?")
        value, most = browser.wait("""(() => {
            const bar = document.querySelector(".assistant progress:not([hidden])");
            return bar === null ? null : [bar.value, bar.max];
        })()""", SECONDS)
        self.assertTrue(0 <= value <= most and most > 4000, (value, most))
        self.assertRegex(self.text(".assistant .state"), r"\AReading: [\d,]+ of [\d,]+ tokens\Z")
        self.finish()
        self.assertEqual(browser.run("document.querySelectorAll('.assistant progress:not([hidden])').length"), 0)


class SavedDocument(Page):
    """A conversation about a document that cake read has saved."""

    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        done = cake("read", "-m", BUNDLED, "-t", 1, "-", "-o", folder / "otters.kv", "--chat-template", "chatml",
                    stdin=DOCUMENT[:4000].encode())
        assert done.returncode == 0, done.stderr
        cls.FLAGS = ("--documents", folder)
        super().setUpClass()

    def test_it_is_chosen_and_asked(self):
        browser.wait("about.options.length > 1", SECONDS)
        self.assertRegex(self.text("#about"), r"no saved document\s*otters \([\d,]+ tokens\)")
        self.set(temperature=0, max_tokens=8, policy="snapkv")
        browser.run("(about.value = 'otters', about.dispatchEvent(new Event('change')))")
        self.ask("Who is it?")
        self.finish()
        self.assertTrue(browser.run("about.disabled"))
        self.assertRegex(self.text("#figures"), r"[\d,]+ of [\d,]+ tokens were still in memory")
        self.assertIn("kvzip+", self.text("#figures"))
        browser.open(self.url)
        self.assertEqual(browser.run("about.value"), "otters")
        browser.click("#new")
        self.assertEqual(browser.run("[about.value, about.disabled]"), ["", False])


class Conversations(Page):
    FLAGS = ("-c", 100_000, "--kv-budget", 128)

    def titles(self):
        return self.texts("#conversations .title")

    def open_conversation(self, title):
        browser.run(f"""[...document.querySelectorAll("#conversations .open")]
            .find((node) => node.firstChild.textContent === {json.dumps(title)}).click()""")

    def choose(self, title, choice):
        browser.run(f"""(() => {{
            const item = [...document.querySelectorAll("#conversations li")]
                .find((node) => node.querySelector(".title").textContent === {json.dumps(title)});
            item.querySelector(".more").click();
            [...item.querySelectorAll(".choices button")].find((node) => node.textContent === {json.dumps(choice)}).click();
        }})()""")

    def test_answers_do_not_mix(self):
        self.set(temperature=0)
        self.ask(ENDLESS)
        browser.wait("document.querySelector('.answer')?.textContent.length > 100", SECONDS)
        browser.click("#new")
        self.assertEqual(self.texts("#messages > li"), [])
        self.set(max_tokens=8)
        self.ask("What is the code?")
        self.finish()
        messages = [{"role": "user", "content": "What is the code?"}]
        body = {"messages": messages, "temperature": 0, "max_tokens": 8, "cache_salt": "another sequence"}
        answer = said(self.server.ask("POST", CHAT, body)[2])
        self.assertEqual(self.texts(".answer"), [answer.strip("\n")])
        self.assertEqual(self.text("#conversations li:last-child .size"), "answering…")
        self.assertEqual(self.server.metric("cake_requests_generating"), 1)
        seen = browser.run("""new Promise((done) => {  // longer than the pause between two polls
            const seen = [], progress = document.getElementById("progress");
            new MutationObserver(() => seen.push(progress.textContent)).observe(progress, {childList: true});
            setTimeout(() => done(seen), 1500);
        })""")
        self.assertEqual(seen, [], "nothing of the other answer is shown")

        self.open_conversation(ENDLESS)
        self.assertEqual(self.texts("#messages .user .plain"), [ENDLESS])
        before = len(self.text(".answer"))
        browser.wait(f"document.querySelector('.answer').textContent.length > {before + 100}", SECONDS)
        browser.press("Escape")
        self.finish()
        self.assertEqual(self.texts(".state:not([hidden])"), ["Stopped."])
        browser.wait(f"document.getElementById('text').textContent.includes({json.dumps(ENDLESS)})", SECONDS)
        self.assertNotIn("What is the code?", self.text("#text"))
        long = self.texts(".answer")

        self.open_conversation("What is the code?")
        self.assertEqual(self.texts(".answer"), [answer.strip("\n")])
        browser.wait("document.getElementById('text').textContent.includes('What is the code?')", SECONDS)
        self.assertNotIn(ENDLESS, self.text("#text"))
        browser.call("Page.reload")
        browser.wait("document.querySelectorAll('.answer').length === 1")
        self.assertEqual(self.texts(".answer"), [answer.strip("\n")])
        self.open_conversation(ENDLESS)
        self.assertEqual(self.texts(".answer"), long)

    def test_a_draft_stays_with_its_conversation(self):
        self.set(max_tokens=2)
        self.ask("Why?")
        self.finish()
        browser.type("And")
        self.paste(DOCUMENT)
        browser.click("#new")
        self.assertEqual((browser.run("document.getElementById('message').value"), self.texts("#documents .name")), ("", []))
        self.open_conversation("Why?")
        self.assertEqual((browser.run("document.getElementById('message').value"), self.texts("#documents .name")),
                         ("And", ["Pasted text"]))

    def test_rename_delete_and_undo(self):
        self.set(max_tokens=2)
        for question in ("Why?", "How?\nAnd when?"):
            browser.click("#new")
            self.ask(question)
            self.finish()
        self.assertEqual(self.titles(), ["How?", "Why?"])
        self.choose("How?", "Rename")
        browser.type("Ways & <b>means</b>")
        browser.press("Enter")
        self.assertEqual(self.titles(), ["Ways & <b>means</b>", "Why?"])
        self.choose("Why?", "Rename")
        browser.type("no")
        browser.press("Escape")
        self.assertEqual(self.titles(), ["Ways & <b>means</b>", "Why?"])
        answer = self.texts(".answer")
        self.choose("Ways & <b>means</b>", "Delete")
        self.assertEqual((self.titles(), self.texts("#messages > li")), (["Why?"], []))
        self.assertEqual(self.text("#removed-title"), "“Ways & <b>means</b>” is deleted.")
        self.assertEqual(browser.run("document.activeElement.id"), "undo")
        self.assertEqual(browser.run("Object.keys(localStorage).filter((key) => key.includes('conversation')).length"), 1)
        browser.press("Enter")
        self.assertEqual((self.titles(), self.texts(".answer")), (["Ways & <b>means</b>", "Why?"], answer))
        self.assertFalse(self.is_shown("#removed"))
        self.choose("Why?", "Delete")
        browser.call("Page.reload")
        browser.wait("document.querySelectorAll('#conversations li').length === 1")
        self.assertEqual((self.titles(), self.texts(".answer")), (["Ways & <b>means</b>"], answer))

    def test_a_deleted_conversation_is_not_answered_any_more(self):
        self.set(temperature=0)
        self.ask(ENDLESS)
        browser.wait("document.querySelector('.answer')?.textContent.length > 100", SECONDS)
        self.choose(ENDLESS, "Delete")
        self.assertTrue(until(lambda: self.server.metric("cake_requests_generating") == 0))
        self.assertEqual((self.titles(), self.texts("#messages > li")), ([], []))

    def test_a_turn_from_another_tab_is_shown_and_not_lost(self):
        self.set(max_tokens=4)
        self.ask("Why?")
        self.finish()
        browser.run("""(() => {
            const key = Object.keys(localStorage).find((name) => name.includes("conversation:"));
            const conversation = JSON.parse(localStorage[key]);
            conversation.turns.push({role: "user", text: "Elsewhere", documents: []}, {role: "assistant", text: "Yes"});
            localStorage[key] = JSON.stringify(conversation);
            dispatchEvent(new StorageEvent("storage", {key}));
        })()""")
        self.assertEqual(self.texts("#messages .user .plain"), ["Why?", "Elsewhere"])
        self.ask("How?")
        self.finish()
        browser.call("Page.reload")
        browser.wait("document.querySelectorAll('.answer').length === 3")
        self.assertEqual(self.texts("#messages .user .plain"), ["Why?", "Elsewhere", "How?"])

    def test_full_storage_loses_nothing_on_screen(self):
        self.set(max_tokens=4)
        browser.run("""(() => {
            for (let size = 1 << 22; size > 0; size >>= 1)
                try { for (let i = 0; ; i++) localStorage.setItem(`filler-${size}-${i}`, "x".repeat(size)); } catch { /* full */ }
        })()""")
        self.ask("Why?")
        self.finish()
        self.assertRegex(self.text("#unsaved"), r"\AThe browser's storage is full: [^.]+\.\Z")
        self.assertTrue(self.is_shown("#unsaved"))
        self.assertEqual((self.titles(), len(self.texts(".answer"))), (["Why?"], 1))
        browser.click("#new")
        self.assertFalse(self.is_shown("#unsaved"))
        self.open_conversation("Why?")
        self.assertEqual((self.is_shown("#unsaved"), len(self.texts(".answer"))), (True, 1))
        browser.run("""Object.keys(localStorage).filter((key) => key.startsWith("filler"))
            .forEach((key) => localStorage.removeItem(key))""")
        self.ask("How?")
        self.finish()
        self.assertFalse(self.is_shown("#unsaved"))

    def test_without_storage_it_works_until_the_page_is_closed(self):
        script = browser.call("Page.addScriptToEvaluateOnNewDocument", source="""
            for (const name of ["localStorage", "sessionStorage"])
                Object.defineProperty(window, name, {get() { throw new DOMException("no", "SecurityError"); }})""")
        browser.open(self.url)
        browser.call("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
        self.set(max_tokens=4)
        self.ask("Why?")
        self.finish()
        self.assertEqual(self.text("#unsaved"), "The browser does not let this page store anything: conversations are lost "
                                                "when the page is closed.")
        browser.click("#new")
        self.ask("How?")
        self.finish()
        self.open_conversation("Why?")
        self.assertEqual(self.texts("#messages .user .plain"), ["Why?"])


class Settings(Page):
    FLAGS = ("-c", 20_000, "--kv-budget", 128)
    TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "additionalProperties": False, "required": ["city"],
        "properties": {"city": {"type": "string", "maxLength": 8}}}}}

    def record(self, more="{}"):
        """Records the bodies of chat requests in `bodies`, and adds fields to what is sent."""
        browser.run(f"""(window.bodies = [], window.usual ??= fetch, window.fetch = (path, options) => {{
            if (!path.endsWith("chat/completions")) return usual(path, options);
            bodies.push(JSON.parse(options.body));
            return usual(path, {{...options, body: JSON.stringify({{...bodies.at(-1), ...{more}}})}});
        }})""")

    def test_the_fields_are_sent(self):
        self.record("{max_tokens: 2}")
        values = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.1, "seed": 5, "max_tokens": 9,
                  "kv_budget": 100, "policy": "snapkv"}
        self.ask("Why?")
        self.finish()
        self.set(**values, thinking="off", effort="low", tools=json.dumps([self.TOOL]))
        self.ask("How?")
        self.finish()
        first, second = browser.run("bodies")
        self.assertEqual(set(first), {"messages", "stream", "stream_options"})
        self.assertEqual({name: second[name] for name in values}, values)
        self.assertEqual(second["chat_template_kwargs"], {"enable_thinking": False})
        self.assertEqual((second["reasoning_effort"], second["tools"]), ("low", [self.TOOL]))
        browser.call("Page.reload")
        browser.wait("document.getElementById('policy')?.placeholder === 'cake+'")
        self.assertEqual([browser.run(f"document.getElementById({json.dumps(name.replace('_', '-'))}).value") for name in values],
                         [str(value) for value in values.values()])
        browser.click("#settings-open")
        browser.click("#settings-reset")
        self.assertEqual(browser.run("""[...document.querySelectorAll("#settings :is(input, select, textarea)")]
            .map((field) => field.value).join("")"""), "")

    def test_the_defaults_are_shown(self):
        browser.wait("document.getElementById('policy').placeholder !== 'default'")
        usual = self.server.get("/props")["default_generation_settings"]["params"]
        for name in ("temperature", "top_p", "top_k", "min_p", "repeat_penalty"):
            shown = float(browser.run(f"document.getElementById({json.dumps(name.replace('_', '-'))}).placeholder"))
            self.assertAlmostEqual(shown, usual[name], places=5)
        self.assertEqual(browser.run("document.getElementById('seed').placeholder"), "random")

    def test_wrong_tools_are_explained_and_not_sent(self):
        self.record()
        for text, words in (("[", "This is not JSON"), ("{}", "The tools must be a list"),
                            ('[{"name": "f"}]', "Tool 1 of the list")):
            self.set(tools=text)
            self.ask("Why?")
            self.assertTrue(self.is_shown("#settings"))
            self.assertIn(words, self.text("#tools-state"))
            self.assertEqual(browser.run("document.getElementById('tools').ariaInvalid"), "true")
            browser.press("Escape")
            self.assertFalse(self.is_shown("#settings"))
            browser.run("document.getElementById('message').value = ''")
        self.assertEqual(browser.run("bodies"), [])
        self.set(tools=json.dumps([self.TOOL]))
        self.assertEqual(self.text("#tools-state"), "1 tool: get_weather.")
        self.assertEqual(browser.run("document.getElementById('tools').ariaInvalid"), "false")

    def test_a_call_and_its_result(self):
        tokens = [self.server.ask("POST", "/tokenize", {"content": c, "add_special": False})[2]["tokens"][-1] for c in '"}']
        bias = {str(token): 8 for token in tokens}  # the bundled model would not end its texts
        self.record(json.dumps({"tool_choice": "required", "parallel_tool_calls": False, "logit_bias": bias, "seed": 3}))
        self.set(tools=json.dumps([self.TOOL]), max_tokens=400)
        self.ask("How is the weather?")
        self.finish()
        self.assertEqual(self.texts(".call code"), ["get_weather"])
        arguments = json.loads(self.text(".call pre"))
        self.assertEqual(self.text(".call pre"), json.dumps(arguments, indent=2, ensure_ascii=False))
        self.assertEqual(list(arguments), ["city"])
        self.assertEqual(self.texts(".results label span"), ["Result of get_weather"])

        self.record("{max_tokens: 4, tools: undefined}")
        browser.run("(document.querySelector('.results textarea').focus(), performance.clearResourceTimings())")
        browser.type("<b>sunny</b>")
        browser.click(".results button")
        self.finish()
        [body] = browser.run("bodies")
        question, call, result = body["messages"]
        [sent] = call["tool_calls"]
        self.assertEqual((question["role"], call["role"], result["role"]), ("user", "assistant", "tool"))
        self.assertEqual((sent["function"]["name"], json.loads(sent["function"]["arguments"])), ("get_weather", arguments))
        self.assertEqual((result["tool_call_id"], result["content"]), (sent["id"], "<b>sunny</b>"))
        self.assertEqual(self.texts("#messages .tool pre"), ["<b>sunny</b>"])
        self.assertEqual(self.texts(".results"), [])
        self.assertIn("<b>sunny</b>", "".join(self.server.get(f"/slots/{self.shown()}?pieces=1")["pieces"]))
        browser.call("Page.reload")
        browser.wait("document.querySelector('#messages .tool pre') !== null")
        self.assertEqual((self.texts(".call code"), self.texts("#messages .tool pre")), (["get_weather"], ["<b>sunny</b>"]))

    def test_reasoning_is_open_while_it_streams(self):
        self.expected = "a status of 404"  # the server does not know the made-up answer
        browser.run("""(() => {
            const body = new ReadableStream({start: (controller) => { window.controller = controller; }});
            const usual = fetch;
            window.say = (delta, reason = null, timings = null) => controller.enqueue(new TextEncoder().encode(
                `data: ${JSON.stringify({id: "made-up", choices: [{index: 0, delta, finish_reason: reason}], timings})}\n\n`));
            window.fetch = (path, options) =>
                path.endsWith("chat/completions") ? Promise.resolve(new Response(body)) : usual(path, options);
        })()""")
        self.ask("Why?")
        browser.run("say({reasoning_content: 'Because <i>it</i> '})")
        browser.wait("document.querySelector('.reasoning').open")
        self.assertEqual(self.text(".reasoning summary"), "Reasoning")
        browser.run("say({reasoning_content: 'rains.'})")
        browser.wait("document.querySelector('.reasoning .plain').textContent === 'Because <i>it</i> rains.'")
        self.assertEqual(self.text("#announcement"), "The model is reasoning.")
        browser.run("say({content: 'It rains.'})")
        browser.wait("!document.querySelector('.reasoning').open")
        self.assertEqual(self.texts(".answer"), ["It rains."])
        browser.click(".reasoning summary")
        browser.run("(say({content: ' Much.'}, 'stop', {predicted_per_second: 12.5, predicted_ms: 0.1}), controller.close())")
        browser.wait("document.getElementById('stop').hidden")
        conversation = self.stored(json.loads(browser.run("sessionStorage.getItem('cake:open')")))
        self.assertEqual(conversation["shown"]["speed"], 12.5, "the speed is the server's")
        self.assertTrue(browser.run("document.querySelector('.reasoning').open"), "it stays as the reader wants it")
        self.assertEqual(self.texts(".answer"), ["It rains. Much."])
        self.assertEqual(browser.run("document.querySelectorAll('main i').length"), 0)


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

    def test_the_empty_cake_shows_the_limits(self):
        browser.wait("document.querySelectorAll('#layers tbody tr').length > 0")
        self.assertEqual(self.texts("#layers tbody td:last-child"), ["empty"] * N_LAYER)
        figures = dict(zip(self.texts("#figures dt"), self.texts("#figures dd"), strict=True))
        props = self.server.get("/props")
        self.assertEqual((figures["policy"], figures["context"]), (props["policy"], "20,000 tokens"))
        self.assertEqual(figures["conversations in memory"], f"up to {props['total_slots']}")
        self.set(kv_budget=64, policy="snapkv")
        figures = dict(zip(self.texts("#figures dt"), self.texts("#figures dd"), strict=True))
        self.assertEqual((figures["policy"], figures["budget"]), ("snapkv", "64 tokens a layer"))
        browser.wait("document.getElementById('server-memory').textContent !== ''")
        bound = number_of_bytes(self.text("#server-memory").split("at most")[1])
        self.assertAlmostEqual(bound / self.server.get("/slots")["kv"]["bytes_bound"], 1, delta=0.006)

    def test_figures(self):
        slot = self.read_document(n=4)
        self.assertEqual(self.text("#progress"), f"Read {slot['prompt_tokens']:,} tokens, and answered with 4.")
        figures = dict(zip(self.texts("#figures dt"), self.texts("#figures dd"), strict=True))
        self.assertEqual(figures["policy"], "cake+, 128 tokens a layer")
        self.assertEqual(figures["prompt"], f"{slot['prompt_tokens']:,} tokens, all read anew")
        self.assertRegex(figures["time to the first token"], r"\A\d+(\.\d)? s\Z")
        self.assertRegex(figures["speed of the answer"], r"\A[\d,.]+ tokens a second\Z")

    def test_the_text_and_its_shades(self):
        self.set(kv_budget=512)  # so that there are tokens that any number of layers hold
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
        browser.run("document.getElementById('key-form').hidden = false")
        yield "everything"
        self.set(tools="[")
        browser.click("#settings-open")
        yield "settings"
        browser.press("Escape")
        self.set(tools="", kv_budget="")

    def test_text_is_readable_and_nothing_scrolls_sideways(self):
        self.expected = "a status of 400"
        for stage in self.stages():
            for dark in (False, True):
                for width, height in ((320, 640), (360, 740), (900, 800), (1600, 1000)):
                    with self.subTest(stage=stage, width=width, dark=dark):
                        browser.view(width, height, dark)
                        self.shoot(f"{width}-{'dark' if dark else 'light'}-{stage}")
                        self.assertEqual(browser.run(SIDEWAYS), [])
                        self.assertEqual(browser.run("document.documentElement.scrollHeight"), height)
                        if width == 360:
                            self.assertEqual(browser.run(SMALL_TARGETS), [])
                with self.subTest(stage=stage, dark=dark):
                    ground = browser.run("getComputedStyle(document.body).backgroundColor")
                    self.assertEqual(ground == "rgb(255, 255, 255)", not dark)
                    contrast = browser.run(FAINT)
                    self.assertGreater(contrast["seen"], 500 if stage in ("read", "everything", "settings") else 12)
                    self.assertEqual(contrast["found"], [])
            browser.view(360, 740)
            for pane in ("cake", "list", "chat"):
                with self.subTest(stage=stage, pane=pane):
                    browser.run(f"document.querySelector('#tabs [data-pane={pane}]').click()")
                    self.shoot(f"360-light-{stage}-{pane}")
                    self.assertEqual(browser.run(SIDEWAYS), [])
                    self.assertEqual(browser.run(SMALL_TARGETS), [])
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
        for _ in range(60):  # enough to go through all elements twice
            browser.press("Tab")
            name, outline = browser.run("""(() => {
                const node = document.activeElement, style = getComputedStyle(node);
                return [node.id || node.tagName, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1];
            })()""")
            self.assertTrue(outline or name == "BODY", f"that the focus is on {name} cannot be seen")
            reached.add(name)
        wanted = browser.run("""[...document.querySelectorAll(
                "a, button, input:not([type=file]), summary, textarea, [tabindex]")]
            .filter((node) => node.checkVisibility()).map((node) => node.id || node.tagName)""")
        self.assertEqual(sorted(set(wanted) - reached), [])
        self.assertTrue({"settings-open", "new", "message", "add", "send", "again", "layers-scroller", "text"} <= reached, reached)

    def test_a_phone_shows_one_pane_and_the_composer_stays(self):
        browser.view(360, 740)
        self.set(temperature=0)
        panes = ("#list", "#chat", "aside")
        for i, pane in enumerate(("list", "chat", "cake")):
            browser.click(f"#tabs [data-pane={pane}]")
            self.assertEqual([self.is_shown(selector) for selector in panes], [i == n for n in range(3)])
            self.assertEqual(self.texts("#tabs [aria-pressed=true]"), [("Conversations", "Chat", "Cake")[i]])
        browser.click("#tabs [data-pane=chat]")
        self.ask(ENDLESS)
        browser.wait("document.querySelector('.answer')?.textContent.length > 2000", SECONDS)
        at = browser.run("document.getElementById('stop').getBoundingClientRect().toJSON()")
        self.assertTrue(0 <= at["left"] < at["right"] <= 360 and 0 <= at["top"] < at["bottom"] <= 740, at)
        browser.click("#stop")
        self.finish()
        browser.click("#tabs [data-pane=list]")
        browser.click("#conversations .open")
        self.assertTrue(self.is_shown("#chat"))

    def test_everything_has_a_name(self):
        self.read_document(n=4)
        browser.click("#settings-open")
        nameless = browser.run("""[...document.querySelectorAll(
                "button, input:not([type=file]), select, textarea, section, main, aside, nav, dialog, ol, [role=group], progress")]
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
