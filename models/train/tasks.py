"""Makes training documents with facts, questions about them, and answers. The wording is that of src/eval/puzzle.cpp.

A document is a list of pieces (text, kind), each of which begins where the tokenizer begins a new word. The kind says
what the model can learn from a piece: nothing from a FACT, whose words are random (questions are FACTs, too); English
from PROSE; and retrieval from an ANSWER, which follows from the text before it.
"""

import random

import text

FACT, PROSE, ANSWER = 0, 1, 2
ATTRIBUTES = ["code", "number", "key", "price", "weight", "age", "name", "sign", "mark", "place"]


def is_held_out(number):
    """Multiples of 11 are reserved for the values of the evaluation and never used in training."""
    return number % 11 == 0


class Level:
    """Difficulty of the documents in a stage of the training."""

    def __init__(self, longest_key=2, longest_value=4, letters=8, words=0.25, facts=(8, 60), bare=0.0, kinds=None,
                 filler=1.0):
        self.longest_key = longest_key      # max words
        self.longest_value = longest_value  # max digits
        self.letters = letters              # max letters of a word
        self.words = words                  # share of values that are words
        self.facts = facts                  # range of the number of facts per 3,000 characters, about 1,024 tokens
        self.bare = bare                    # share of documents whose facts are only "key: value"
        self.kinds = kinds or {"fact": 1.0}
        self.filler = filler                # share of documents with filler


def choose(rng, weights):
    return rng.choices(list(weights), weights=list(weights.values()))[0]


class Writer:
    """Draws random words, names and values. No name occurs twice in a document."""

    def __init__(self, rng, level):
        self.rng, self.level = rng, level
        self.words = WORDS_BY_LENGTH[level.letters]
        self.names = set()

    def word(self):
        return self.rng.choice(self.words)

    def name(self):
        while True:
            name = " ".join(self.word() for _ in range(self.rng.randint(1, self.level.longest_key)))
            if name not in self.names:
                self.names.add(name)
                return name

    def number(self):
        most = self.level.longest_value
        n_digits = most if self.rng.random() < 0.7 else self.rng.randint(1, most)
        while True:
            number = self.rng.randrange(10 ** (n_digits - 1), 10 ** n_digits)
            if n_digits < 3 or not is_held_out(number):
                return str(number)

    def value(self):
        return self.word() if self.rng.random() < self.level.words else self.number()


WORDS_BY_LENGTH = {n: [w for w in text.words() if len(w) <= n] for n in (4, 5, 6, 8)}


# Each kind returns (facts, [(question, answer)]). The text must state the facts in this order.

def plain(w):
    """One fact about one thing."""
    attribute, name, value = w.rng.choice(ATTRIBUTES), w.name(), w.value()
    sentence = w.rng.choice(("The {a} of the {n} is {v}.", "The {a} of the {n} is {v}.", "Remember: the {a} of the {n} is {v}.",
                             "The {n} has the {a} {v}."))
    return [sentence.format(a=attribute, n=name, v=value)], [(f"What is the {attribute} of the {name}?", value)]


def many_values(w):
    """Several values of one thing, which the answer lists in order."""
    attribute, name = w.rng.choice(ATTRIBUTES), w.name()
    values = [w.number() for _ in range(w.rng.randint(2, 4))]
    facts = [f"One {attribute} of the {name} is {v}." for v in values]
    return facts, [(f"What is every {attribute} of the {name}?", ", ".join(values))]


def chain(w):
    """A value passed along a chain of names."""
    names = [w.name() for _ in range(w.rng.randint(2, 4))]
    value = w.number()
    facts = [f"The value of {names[0]} is {value}."]
    facts += [f"The value of {b} is the value of {a}." for a, b in zip(names, names[1:])]
    return facts, [(f"What is the value of {name}?", value) for name in reversed(names)]


def friend(w):
    """Two facts that must be combined."""
    attribute, a, b, value = w.rng.choice(ATTRIBUTES), w.name(), w.name(), w.value()
    facts = [f"The friend of the {a} is the {b}.", f"The {attribute} of the {b} is {value}."]
    if w.rng.random() < 0.5:
        facts.reverse()
    return facts, [(f"What is the {attribute} of the friend of the {a}?", value), (f"Who is the friend of the {a}?", f"the {b}")]


def frequent(w):
    """The most frequent word of a list."""
    listed = [w.word() for _ in range(w.rng.randint(3, 8))]
    most = listed[0]
    words = listed[1:] * w.rng.randint(1, 2) + [most] * w.rng.randint(4, 8)
    w.rng.shuffle(words)
    topic = w.name()
    return [f"Words of the {topic}: {' '.join(words)}."], [(f"Which word is the most frequent of the {topic}?", most)]


KINDS = {"fact": plain, "values": many_values, "chain": chain, "friend": friend, "frequent": frequent}


def filler_source(rng):
    """Returns a function that returns the next sentence of filler."""
    verses = text.verses()[0]
    words = WORDS_BY_LENGTH[8]
    kind = rng.random()
    if kind < 0.55:  # prose
        state = [rng.randrange(len(verses))]

        def sentence():
            state[0] = (state[0] + 1) % len(verses)
            return verses[state[0]]
        return sentence
    if kind < 0.8:  # a few sentences, repeated
        few = [rng.choice(verses).split(".")[0][:120] + "." if rng.random() < 0.5
               else f"The {rng.choice(words)} is {rng.choice(words)}." for _ in range(rng.randint(1, 6))]
        state = [0]

        def sentence():
            state[0] += 1
            return few[state[0] % len(few)]
        return sentence

    def sentence():  # nonsense sentences of random words
        middle = " ".join(rng.choice(words) for _ in range(rng.randint(1, 5)))
        return f"{rng.choice(('The', 'A', 'One', 'Every'))} {middle} {rng.choice(words)}."
    return sentence


def document(rng, level, n_characters):
    """Returns the pieces of a document of about `n_characters` characters, with questions anywhere in it."""
    writer = Writer(rng, level)
    bare = rng.random() < level.bare
    between = rng.choice(("", ":", " is", " ="))  # separator between a bare name and its value
    n_facts = max(1, round(rng.uniform(*level.facts) * n_characters / 3000))
    if rng.random() < 0.25:
        n_facts = rng.randint(1, 2)
    groups, total = [], 0
    while total < n_facts:
        if bare:
            name, value = writer.name(), writer.value()
            facts, questions = [f"{name}{between} {value}."], [(name, value)]
        else:
            facts, questions = KINDS[choose(rng, level.kinds)](writer)
        groups.append((facts, questions))
        total += len(facts)

    # Places of all sentences: the facts of a group in order, their questions anywhere after the last of them.
    events = []  # (place, sentence, kind, answer)
    for facts, questions in groups:
        places = sorted(rng.random() * 0.95 for _ in facts)
        events += [(place, fact, FACT, None) for place, fact in zip(places, facts)]
        for question, answer in questions:
            for _ in range(2 if rng.random() < 0.2 or n_facts <= 2 else 1):
                events.append((places[-1] + (1 - places[-1]) * rng.random(), question, ANSWER, answer))
    if rng.random() < level.filler:
        sentence = filler_source(rng)
        n_filler = n_characters - sum(len(e[1]) + (len(e[3]) + 22 if e[3] else 0) for e in events)
        filler = []
        while n_filler > 0:
            filler.append(sentence())
            n_filler -= len(filler[-1]) + 1
        places = sorted(rng.random() for _ in filler)
        events += [(place, sentence, PROSE, None) for place, sentence in zip(places, filler)]
    events.sort(key=lambda event: event[0])

    pieces = []
    for _, sentence, kind, answer in events:
        line_ended = not pieces or pieces[-1][0].endswith("\n")
        if kind != ANSWER:
            if not line_ended and rng.random() < 0.25:
                end_line(pieces)
                line_ended = True
            pieces.append((sentence if line_ended else " " + sentence, kind))
            continue
        if not line_ended:
            end_line(pieces)
        if bare:
            pieces += [(f"{sentence}{between}", FACT), (f" {answer}", ANSWER), (".\n", FACT)]
        else:
            pieces += [(f"USER: {sentence}\nASSISTANT:", FACT), (f" {answer}</s>", ANSWER), ("\n", FACT)]
    return pieces


def end_line(pieces):
    sentence, kind = pieces[-1]
    pieces[-1] = (sentence + "\n", kind)


def prose(rng, n_characters):
    """Returns the pieces of a document that is only prose."""
    verses = text.verses()[0]
    at, pieces, n = rng.randrange(len(verses)), [], 0
    while n < n_characters:
        pieces.append(((" " if pieces else "") + verses[at % len(verses)], PROSE))
        n += len(pieces[-1][0])
        at += 1
    return pieces


def sample_text(rng):
    """Returns a document for the training of the tokenizer."""
    level = Level(kinds={kind: 1.0 for kind in KINDS})
    return "".join(piece for piece, _ in document(rng, level, 2000))
