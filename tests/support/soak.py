"""A soak test of the server: clients of all kinds at once, with checks during and after it.

bench/results-soak runs it for a long time and prints its figures, tests/server/soak_test.py runs it for a short time.
"""

import collections
import dataclasses
import http.client
import itertools
import json
import math
import os
import pathlib
import random
import re
import socket
import statistics
import sys
import threading
import time

from support.cake_process import BUNDLED
from support.server import Server, events

MIB = 1 << 20
TEXT = BUNDLED.parent / "document.txt"
PATIENCE_SECONDS = 600  # how long a client waits for the next byte of an answer
SILENCE_SECONDS = 30  # time within which the server must give up on an incomplete request
STOP = [" and", "e t"]
KEYS = ("a-key-of-the-soak", "another-key")  # a client has one of them
DISCONNECTED, GARBAGE = 0.10, 0.05  # shares of the requests
POLICIES = ("cake:uniform", "snapkv", "pyramidkv", "ada-snapkv", "streaming-llm", "h2o", "tova", "knorm", "keydiff", "full")


@dataclasses.dataclass
class Options:
    seconds: float
    n_clients: int
    most_tokens: int  # max tokens of a prompt
    model: pathlib.Path = BUNDLED
    n_threads: int = 1
    kv_budget: int = 1024  # tokens per layer, for requests without a budget of their own
    n_compared: int = 100  # single requests that are repeated alone, and a fifth as many conversations
    most_growth: float = 0.03  # max growth of the resident memory, as a share
    seed: int = 1
    flags: tuple = ()  # flags of cake serve


@dataclasses.dataclass
class Question:
    kind: str
    path: str
    body: dict
    fits: object = lambda text: True  # check of a complete answer
    key: str = KEYS[0]


@dataclasses.dataclass
class Answer:
    texts: list
    reasons: list
    usage: dict
    first_seconds: float | None = None  # time to the first token, since the first attempt
    gaps: list = dataclasses.field(default_factory=list)

    @property
    def n_cached(self):
        return self.usage["prompt_tokens_details"]["cached_tokens"]

    def said(self):
        return self.texts, self.reasons, self.usage["prompt_tokens"], self.usage["completion_tokens"]


class Failure(Exception):
    pass


def is_object_of(**kinds):
    """Returns a check that a text is a JSON object with exactly these properties, each of which passes its check."""
    def fits(text):
        value = json.loads(text)
        return value.keys() == kinds.keys() and all(fits_kind(value[name]) for name, fits_kind in kinds.items())

    return fits


def schema_of(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCHEMAS = (
    (schema_of(name={"type": "string", "maxLength": 8}, colour={"enum": ["red", "green", None]}),
     is_object_of(name=lambda x: isinstance(x, str) and len(x) <= 8, colour=lambda x: x in ("red", "green", None))),
    (schema_of(list={"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "integer", "minimum": 0, "maximum": 99}},
               good={"type": "boolean"}),
     is_object_of(list=lambda x: 1 <= len(x) <= 3 and all(0 <= n <= 99 for n in x), good=lambda x: isinstance(x, bool))),
)


def is_call(text):
    """Checks the calls of TOOLS, as said_in() writes them."""
    lines = text.strip().split("\n")
    fits = {"stop": is_object_of(), "mix": SCHEMAS[0][1]}
    return all(fits[name](arguments) for name, arguments in (line.split(" ", 1) for line in lines))


TOOLS = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in (("stop", schema_of()), ("mix", SCHEMAS[0][0]))]


def said_in(message):
    """The content of a message or of a part of it, and its calls, each in a line."""
    functions = [call["function"] for call in message.get("tool_calls", ())]
    return (message.get("content") or "") + "".join((f"\n{f['name']} " if "name" in f else "") + f["arguments"] for f in functions)


class Asker:
    """Sends requests from its own address, so that the server sees a separate client. May keep its connection."""

    def __init__(self, port, number=0, stays=False):
        self.stays = stays
        self.n_busy = 0  # number of 503 answers
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS,
                                                     source_address=(f"127.0.{number // 250 + 1}.{number % 250 + 1}", 0))

    def send(self, question):
        content = json.dumps(question.body)
        while True:
            reused = self.connection.sock is not None
            try:
                self.connection.request("POST", question.path, content, {"Content-Type": "application/json", "Authorization": f"Bearer {question.key}"})
                return self.connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.connection.close()
                if not reused:
                    raise
                # The server had closed the idle connection.

    def ask(self, question):
        begin = time.monotonic()
        try:
            while (response := self.send(question)).status == 503:
                if "Retry-After" not in response.headers:
                    raise Failure(f"503 without Retry-After: {response.read()!r}")
                response.read()
                self.n_busy += 1
                time.sleep(int(response.headers["Retry-After"]))
            if response.status != 200:
                raise Failure(f"{response.status}: {response.read()[:300]!r}")
            answer = self.stream(response, begin) if question.body.get("stream") else self.whole(response)
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{type(error).__name__}: {error}, after {time.monotonic() - begin:.1f} s") from error
        finally:
            if not self.stays:
                self.connection.close()
        prompts = question.body.get("prompt", "")
        n = question.body.get("n", 1) * (1 if isinstance(prompts, str) else len(prompts))
        if len(answer.texts) != n or answer.texts.count(answer.texts[0]) != n:
            raise Failure(f"{n} answers at temperature 0 are {answer.texts}")
        for text, reason in zip(answer.texts, answer.reasons):
            if reason not in ("stop", "length", "tool_calls"):
                raise Failure(f"ended with {reason}: {text!r}")
            if reason != "length" and not question.fits(text):
                raise Failure(f"does not fit its schema: {text!r}")
        return answer

    @staticmethod
    def whole(response):
        body = json.loads(response.read())
        texts = [said_in(choice["message"]) if "message" in choice else choice["text"] for choice in body["choices"]]
        return Answer(texts, [choice["finish_reason"] for choice in body["choices"]], body["usage"])

    @staticmethod
    def stream(response, begin):
        texts, reasons = collections.defaultdict(str), {}
        answer = Answer([], [], None)
        last = None
        for event in events(response):
            if "error" in event:
                raise Failure(f"in the stream: {event['error']}")
            answer.usage = event.get("usage") or answer.usage
            for choice in event["choices"]:
                text = choice["text"] if "text" in choice else said_in(choice["delta"])
                texts[choice["index"]] += text
                if choice["finish_reason"]:
                    reasons[choice["index"]] = choice["finish_reason"]
                if text and choice["index"] == 0:
                    now = time.monotonic()
                    if last is None:
                        answer.first_seconds = now - begin
                    else:
                        answer.gaps.append(now - last)
                    last = now
        response.read()
        if answer.usage is None or len(reasons) != len(texts):
            raise Failure(f"a stream that broke off: {dict(texts)}")
        answer.texts = [texts[i] for i in sorted(texts)]
        answer.reasons = [reasons[i] for i in sorted(reasons)]
        return answer


class Client(threading.Thread):
    """One of many clients, which sends requests until the time is up."""

    def __init__(self, soak, storm, number):
        super().__init__(daemon=True)
        self.soak = soak
        self.storm = storm
        self.number = number
        self.random = random.Random(f"{soak.options.seed}/{storm}{number}")
        self.asker = Asker(soak.server.port, number, stays=number % 2 == 0)
        self.key = KEYS[number // 2 % 2]
        self.serial = itertools.count()
        self.turns = []  # (question, answer) of each turn of its conversation

    def run(self):
        try:
            while not self.soak.is_over():
                if self.number % 4 > 0 and self.soak.is_ebb():
                    time.sleep(0.1)
                    continue
                draw = self.random.random()
                if draw < GARBAGE:
                    self.send_garbage()
                elif draw < GARBAGE + DISCONNECTED:
                    self.disconnect()
                else:
                    self.ask()
            self.soak.keep_conversation(self.turns)
        except Exception as error:  # pylint: disable=broad-except
            self.soak.fail(f"client {self.number} itself: {type(error).__name__}: {error}")
        finally:
            self.asker.connection.close()

    # ---- good requests

    def ask(self):
        question = self.question()
        try:
            answer = self.asker.ask(question)
        except Failure as failure:
            self.soak.fail(f"{question.kind}: {failure}\n    {json.dumps(question.body)[:300]}")
            self.turns = []
            return
        self.soak.note(question, answer)
        if question.kind == "conversation":
            self.turns.append((question, answer))
        elif answer.n_cached:
            self.soak.fail(f"{question.kind}: {answer.n_cached} tokens of a text that nobody else sent were in memory")

    def n_tokens(self, most):
        """Draws a log-uniform number of tokens from 10 to `most`."""
        return round(math.exp(self.random.uniform(math.log(10), math.log(most))))

    def text(self, n_tokens):
        """Makes a text of about `n_tokens` tokens with a unique beginning."""
        words = self.random.choices(self.soak.words, k=max(1, round(n_tokens / self.soak.tokens_of_word)))
        return f"{self.storm}{self.number}.{next(self.serial)} {' '.join(words)}"

    def question(self):
        draw = self.random.random
        budget, most = self.soak.options.kv_budget, self.soak.options.most_tokens
        kind = self.random.choices(("single", "conversation", "two answers", "two prompts", "other policy", "json_schema", "tools"),
                                   weights=(40, 60 if self.turns else 20, 10, 5, 20, 10, 10))[0]
        if kind == "conversation":
            return self.next_turn()
        body = {"temperature": 0, "max_tokens": self.random.randint(1, 64), "cache_prompt": draw() < 0.5}
        fits = Question.fits
        if kind == "two answers":
            body["n"] = 2
        elif kind == "single" and draw() < 0.5:
            body["kv_budget"] = budget // 4  # leaves memory for the cached sequences of conversations
        elif kind == "other policy":
            body["policy"] = self.random.choice(POLICIES)
            if body["policy"] == "full":
                most = min(most, 2 * budget)
            else:
                body["kv_budget"] = self.random.choice((budget // 4, budget // 2, budget, 2 * budget))
        elif kind == "json_schema":
            schema, fits = self.random.choice(SCHEMAS)
            body["max_tokens"] = 200
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        elif kind == "tools":
            # Requests with the same tools share the beginning of their prompts.
            body |= {"max_tokens": 200, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "cache_prompt": False}
            return self.of_form(kind, [{"role": "user", "content": self.text(self.n_tokens(most))}], body, is_call)
        elif kind == "two prompts":
            text = self.text(self.n_tokens(most // 2))
            return self.of_form(kind, [text, text], body | {"cache_prompt": False})
        if draw() < 0.15 and kind != "json_schema":
            body["stop"] = STOP
        text = self.text(self.n_tokens(most))
        return self.of_form(kind, text if draw() < 0.5 else [{"role": "user", "content": text}], body, fits)

    def of_form(self, kind, text_or_messages, body, fits=Question.fits):
        chat = not isinstance(text_or_messages, str) and isinstance(text_or_messages[0], dict)
        body["messages" if chat else "prompt"] = text_or_messages
        if self.random.random() < 0.6:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return Question(kind, "/v1/chat/completions" if chat else "/v1/completions", body, fits, self.key)

    def next_turn(self):
        """Returns the next turn of the client's conversation, or the first turn of a new one."""
        most = self.soak.options.most_tokens
        if self.turns and (len(self.turns) >= 6 or self.turns[-1][1].usage["total_tokens"] > 0.7 * most):
            self.soak.keep_conversation(self.turns)
            self.turns = []
        messages = []
        if self.turns:
            question, answer = self.turns[-1]
            messages = [*question.body["messages"], {"role": "assistant", "content": answer.texts[0]}]
        messages.append({"role": "user", "content": self.text(self.n_tokens(most // 8 if self.turns else most // 2))})
        budget = self.random.choice((1, 1, 4)) * self.soak.options.kv_budget // 4
        if self.turns:
            budget = self.turns[0][0].body["kv_budget"]
        body = {"temperature": 0, "max_tokens": self.random.randint(1, 64), "kv_budget": budget}
        if self.random.random() < 0.15:
            body["stop"] = STOP
        return self.of_form("conversation", messages, body)

    # ---- requests whose client disconnects

    def disconnect(self):
        reading = self.random.random() < 0.5
        most = self.soak.options.most_tokens
        length = self.n_tokens(most) if reading else self.n_tokens(most // 4)
        body = {"prompt": self.text(max(length, most // 8) if reading else length), "temperature": 0, "max_tokens": 2000,
                "ignore_eos": True, "stream": not reading or self.random.random() < 0.5}
        asker = Asker(self.soak.server.port, self.number)
        try:
            if reading:
                asker.connection.request("POST", "/v1/completions", json.dumps(body), {"Authorization": f"Bearer {self.key}"})
                time.sleep(self.random.uniform(0, 2))
            else:
                response = asker.send(Question("", "/v1/completions", body, key=self.key))
                if response.status not in (200, 503):
                    self.soak.fail(f"disconnecting: {response.status}: {response.read()!r}")
                for _ in range(self.random.randint(1, 40)):
                    response.readline()
            self.soak.count("disconnected while reading" if reading else "disconnected while streaming")
            if asker.connection.sock and self.random.random() < 0.5:  # reset the connection
                asker.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except (OSError, http.client.HTTPException) as error:
            self.soak.fail(f"disconnecting: {type(error).__name__}: {error}")
        finally:
            asker.connection.close()

    # ---- invalid requests

    def send_garbage(self):
        text = self.text(self.n_tokens(self.soak.options.most_tokens)).encode()
        broken = b'{"prompt": "' + text
        wrong = self.random.choice((b'{"prompt": 5}', b'{"messages": "hello"}', b'{"prompt": "a", "max_tokens": "many"}',
                                    b'{"prompt": "a", "top_p": 7}', b'{"prompt": ' + b"[" * 100_000, b"[]", b"",
                                    b'{"prompt": "a", "kv_budget": 1}', b'{"prompt": "a", "temperature": 1e999}'))
        not_utf8 = b'{"prompt": "' + text + b' \xff\xfe\xc0\x80"}'
        kind, data, statuses = self.random.choice((
            ("broken JSON", self.post(broken), (400,)), ("wrong fields", self.post(wrong), (400,)),
            ("invalid UTF-8", self.post(not_utf8), (400,)), ("too large", self.post(b"{", 1 << 40), (413,)),
            ("half a request", self.post(broken, len(broken) + 10), (400, 408)),
            ("random bytes", self.random.randbytes(self.random.randint(1, 4096)) + b"\r\n\r\n", (400, 404, 408, 413, 414, 431))))
        silent = kind == "half a request"
        begin = time.monotonic()
        try:
            with self.soak.server.socket(SILENCE_SECONDS) as connection:
                connection.sendall(data)
                if silent and not self.soak.is_long():
                    time.sleep(1)
                    received = b""
                else:
                    received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except ConnectionError:
            received = b""  # an answer may be lost while the client is still sending
        except TimeoutError:
            return self.soak.fail(f"{kind}: no end of the connection within {SILENCE_SECONDS} s")
        self.soak.count(f"garbage: {kind}")
        status = re.match(rb"HTTP/1\.1 (\d+)", received)
        if received and (not status or int(status[1]) not in statuses):
            self.soak.fail(f"{kind}: {data[:100]!r} is answered with {received[:300]!r}, after {time.monotonic() - begin:.1f} s")

    @staticmethod
    def post(body, length=None):
        headers = f"Host: localhost\r\nAuthorization: Bearer {KEYS[0]}\r\nConnection: close\r\nContent-Length: {length or len(body)}"
        return f"POST /v1/completions HTTP/1.1\r\n{headers}\r\n\r\n".encode() + body


@dataclasses.dataclass
class Sample:
    """State of the server at one moment."""
    seconds: float
    resident: int  # bytes
    n_threads: int
    n_descriptors: int
    kv_bytes: float

    def counted(self):
        return self.n_threads, self.n_descriptors

    def within(self, most):
        return self.n_threads <= most.n_threads and self.n_descriptors <= most.n_descriptors


class Soak:
    def __init__(self, server, options):
        self.server = server
        self.options = options
        self.failures = []
        self.counts = collections.Counter()
        self.singles, self.conversations = [], []  # questions with answers
        self.first_seconds, self.gaps = [], []
        self.samples = []
        self.lock = threading.Lock()
        self.end = 0.0
        self.words = TEXT.read_text(encoding="utf-8").split()
        tokens = server.ask("POST", "/tokenize", {"content": " ".join(self.words)})[2]["tokens"]
        self.tokens_of_word = len(tokens) / len(self.words)
        self.bound = server.metric("cake_kv_bytes_bound")
        self.compared = collections.Counter()
        self.n_busy = 0

    # ---- for the clients

    def is_over(self):
        return time.monotonic() >= self.end

    def is_ebb(self):
        """Whether only a quarter of the clients is active. This alternates about once a minute, equally often in each
        fifth of the time. With few clients, cached sequences stay in memory for the next turn."""
        fifth = self.options.seconds / 5
        tide = fifth / math.ceil(fifth / 60)
        return (self.end - time.monotonic()) % tide < tide / 2

    def is_long(self):
        return self.options.seconds >= 120

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def fail(self, what):
        with self.lock:
            self.failures.append(what)

    def note(self, question, answer):
        with self.lock:
            self.counts[f"good: {question.kind}"] += 1
            if answer.first_seconds is not None:
                self.first_seconds.append(answer.first_seconds)
                if question.body.get("n", 1) == 1:
                    self.gaps.extend(answer.gaps)
            if question.kind != "conversation":
                self.singles.append((question, answer))

    def keep_conversation(self, turns):
        if len(turns) > 1:
            with self.lock:
                self.conversations.append(turns)

    # ---- running and watching

    def metrics(self):
        """Returns all metrics by name with labels."""
        lines = self.server.get("/metrics").decode().splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}

    def look(self):
        process = pathlib.Path("/proc", str(self.server.process.pid))
        resident = int(re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text(encoding="ascii"))[1]) << 10
        return Sample(time.monotonic(), resident, len(os.listdir(process / "task")), len(os.listdir(process / "fd")),
                      self.server.metric("cake_kv_bytes"))

    def watch(self, begin):
        """Samples the server every second until the time is up."""
        try:
            for second in itertools.count(1):
                time.sleep(max(0.0, begin + second - time.monotonic()))
                if self.is_over():
                    return
                sample = self.look()
                self.samples.append(sample)
                if sample.kv_bytes > self.bound:
                    self.fail(f"K/V memory of {sample.kv_bytes:.0f} bytes is above the bound of {self.bound:.0f}")
                if self.is_long() and second % 60 == 0:
                    print(f"{second // 60} min: {sum(self.counts.values())} requests, {len(self.failures)} failures, "
                          f"{sample.resident / MIB:.1f} MiB", file=sys.stderr, flush=True)
        except (OSError, http.client.HTTPException) as error:
            self.fail(f"the server cannot be looked at: {type(error).__name__}: {error}, exit code {self.server.process.poll()}")
            self.end = 0.0

    def storm(self, name, seconds):
        begin = time.monotonic()
        self.end = begin + seconds
        clients = [Client(self, name, number) for number in range(self.options.n_clients)]
        for client in clients:
            client.start()
        self.watch(begin)
        for client in clients:
            client.join()
        self.n_busy = sum(client.asker.n_busy for client in clients)

    def rest(self, most=None):
        """Waits up to 15 s after all clients have gone until the threads and descriptors are at most those of `most`,
        or without `most` until they have not changed for 4 s. Returns the last sample."""
        end = time.monotonic() + 15
        samples = []
        while True:
            sample = self.look()
            calm = sum(self.server.metric(f"cake_requests_{name}") for name in ("waiting", "reading", "generating")) == 0
            if not calm or (samples and sample.counted() != samples[-1].counted()):
                samples = []
            samples.append(sample)
            few = sample.within(most) if most else sample.seconds - samples[0].seconds > 4
            if (calm and few) or time.monotonic() > end:
                return sample
            time.sleep(0.3)

    def run(self):
        # A short warm-up, so that all threads and buffers exist.
        self.storm("warm-up ", 1)
        fresh = self.rest()
        for kept in (self.counts, self.singles, self.conversations, self.first_seconds, self.gaps, self.samples):
            kept.clear()
        before = self.metrics()
        begin = time.monotonic()
        self.storm("", self.options.seconds)
        seconds = time.monotonic() - begin
        totals = {name: value - before.get(name, 0) for name, value in self.metrics().items()}
        left = self.rest(fresh)
        if not left.within(fresh):
            self.fail(f"of {fresh.n_threads} threads and {fresh.n_descriptors} descriptors there are {left.n_threads} and "
                      f"{left.n_descriptors} left")
        self.compare()
        peak = self.server.metric("cake_kv_bytes_peak")
        if peak > self.bound:
            self.fail(f"K/V memory of up to {peak:.0f} bytes is above the bound of {self.bound:.0f}")
        return [*self.figures_of_requests(seconds, totals), *self.figures_of_memory(peak), *self.figures_of_threads(fresh, left),
                *((f"identical when asked alone: {what}", f"{n:,}") for what, n in sorted(self.compared.items()))]

    # ---- comparison and figures

    def compare(self):
        """Repeats some of the requests one at a time and compares the answers."""
        chance = random.Random(self.options.seed)
        asker = Asker(self.server.port)
        for question, answer in chance.sample(self.singles, min(len(self.singles), self.options.n_compared)):
            self.compare_one(asker, question, answer, False)
        # Compare the conversations that continued from cached sequences first.
        chance.shuffle(self.conversations)
        self.conversations.sort(key=lambda turns: all(answer.n_cached == 0 for _, answer in turns))
        for turns in self.conversations[:self.options.n_compared // 5]:
            for question, answer in turns:
                # A turn whose predecessor had been removed from memory was prefilled from the start.
                if not self.compare_one(asker, question, answer, answer.n_cached > 0):
                    break

    def compare_one(self, asker, question, answer, cached):
        """Repeats a request and returns whether the answer is the same."""
        try:
            alone = asker.ask(dataclasses.replace(question, body={**question.body, "cache_prompt": cached}))
        except Failure as failure:
            self.fail(f"{question.kind}, alone: {failure}")
            return False
        if alone.n_cached != answer.n_cached:
            self.fail(f"{question.kind}: alone {alone.n_cached} tokens were in memory, in the crowd {answer.n_cached}")
            return False
        if alone.said() != answer.said():
            self.fail(f"{question.kind}: {answer.said()} is another answer than alone, {alone.said()}\n"
                      f"    {json.dumps(question.body)[:300]}")
            return False
        self.compared[f"{question.kind}, from memory" if cached else question.kind] += 1
        return True

    def figures_of_requests(self, seconds, totals):
        read = totals["cake_prompt_tokens_total"] - totals["cake_cached_tokens_total"]
        generated = totals["cake_generated_tokens_total"]
        lengths = sorted(answer.usage["prompt_tokens"] for _, answer in self.singles)
        yield "seconds until the last answer", f"{seconds:,.0f}"
        for what, n in sorted(self.counts.items()):
            yield f"requests, {what}", f"{n:,}"
        yield "rejected with 503 and sent again", f"{self.n_busy:,}"
        yield "tokens per prompt, median and maximum", f"{statistics.median(lengths):,.0f}, {lengths[-1]:,}" if lengths else "–"
        yield "prompt tokens read, and per second", f"{read:,.0f}, {read / seconds:,.0f}"
        yield "prompt tokens found in memory", f"{totals['cake_cached_tokens_total']:,.0f}"
        yield "tokens generated, and per second", f"{generated:,.0f}, {generated / seconds:,.1f}"
        yield "time to the first token including waiting, p50, p95, p99", quantiles(self.first_seconds, 1, "s")
        yield "time between tokens, p50, p95, p99", quantiles(self.gaps, 1000, "ms")
        buckets = {name: n for name, n in totals.items() if name.startswith("cake_time_between_tokens_seconds_bucket")}
        shares = [n / max(totals["cake_time_between_tokens_seconds_count"], 1) for n in buckets.values()]
        bounds = [next(name for name, share in zip(buckets, shares) if share >= p).split('"')[1] for p in (0.5, 0.95, 0.99)]
        yield "time between tokens as counted by the server, p50, p95, p99", f"up to {', '.join(bounds)} s"

    def figures_of_memory(self, peak):
        yield "peak K/V memory, and the bound", f"{peak / MIB:.2f} of {self.bound / MIB:.2f} MiB"
        begin = self.end - self.options.seconds
        fifth = self.options.seconds / 5
        fifths = [[sample for sample in self.samples if i <= (sample.seconds - begin) / fifth < i + 1] for i in range(5)]
        if not all(fifths):
            return self.fail("there are too few samples of the memory")
        medians = [statistics.median(sample.resident for sample in fifth) for fifth in fifths]
        warm = [sample for fifth in fifths[1:] for sample in fifth]
        slope = statistics.linear_regression([sample.seconds for sample in warm], [sample.resident for sample in warm]).slope
        if medians[4] > medians[1] * (1 + self.options.most_growth):
            self.fail(f"resident memory grows from {medians[1] / MIB:.1f} to {medians[4] / MIB:.1f} MiB")
        yield "resident memory, median of each fifth of the time", ", ".join(f"{m / MIB:.1f}" for m in medians) + " MiB"
        yield "growth from the second fifth to the last", f"{100 * (medians[4] / medians[1] - 1):+.2f} %"
        yield "slope after the first fifth", f"{slope * 3600 / MIB:+.1f} MiB an hour"

    def figures_of_threads(self, fresh, left):
        for what, n in (("threads", "n_threads"), ("descriptors", "n_descriptors")):
            most = max((getattr(sample, n) for sample in self.samples), default=0)
            yield f"{what} before, maximum, and after", f"{getattr(fresh, n)}, {most}, {getattr(left, n)}"


def quantiles(values, factor, unit):
    if len(values) < 2:
        return "–"
    cuts = statistics.quantiles(values, n=100)
    return ", ".join(f"{factor * cuts[p - 1]:.3g}" for p in (50, 95, 99)) + f" {unit}"


def soak(options):
    """Runs the soak test. Returns the figures, as pairs of a name and a text, and the failures."""
    # About two thirds more than the longest prompt, so that another one can be prefilled at the same time.
    n_ctx = options.most_tokens * 8 // 5 + 768
    # The queue has room for most clients. A few get a 503 if a long text keeps the others waiting.
    n_parallel = max(options.n_clients // 2, 4)
    with Server("-c", n_ctx, "--parallel", n_parallel, "--queue", options.n_clients * 3 // 4, "--kv-budget", options.kv_budget,
                "--api-key", ",".join(KEYS), *options.flags, model=options.model, threads=options.n_threads,
                headers={"Authorization": f"Bearer {KEYS[0]}"}) as server:
        # Switch often between the client threads, so that waiting for each other does not distort the times.
        sys.setswitchinterval(0.0005)
        running = Soak(server, options)
        figures = running.run()
        code = server.stop()
        if code != 0:
            running.fail(f"exit code {code} after SIGTERM: {server.errors[-1000:]}")
    return figures, running.failures
