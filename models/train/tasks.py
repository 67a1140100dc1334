"""Documents with facts in them, questions about the facts, and answers. The wording is that of src/eval/puzzle.cpp.

A document is a list of pieces, (text, kind), that start where the tokenizer starts a new word; kinds say what is to be
learned of a piece: nothing much of a FACT or a QUESTION, whose words are drawn at random; PROSE is English; an ANSWER can
be known from what stands before.
"""

import random

import text

FACT, PROSE, ANSWER = 0, 1, 2
ATTRIBUTES = ["code", "number", "key", "price", "weight", "age", "name", "sign", "mark", "place"]


def is_held_out(number):
    """Multiples of 11 are values in the evaluation and never in training."""
    return number % 11 == 0


class Level:
    """How hard the documents of a stage of the training are."""

    def __init__(self, longest_key=2, longest_value=4, letters=8, words=0.25, facts=(8, 60), bare=0.0, kinds=None,
                 filler=1.0):
        self.longest_key = longest_key      # words
        self.longest_value = longest_value  # digits
        self.letters = letters              # of a word
        self.words = words                  # share of the values that are words
        self.facts = facts                  # in a document of 1,024 tokens
        self.bare = bare                    # share of the documents whose facts are only "key: value"
        self.kinds = kinds or {"fact": 1.0}
        self.filler = filler                # share of the documents with filler


def choose(rng, weights):
    return rng.choices(list(weights), weights=list(weights.values()))[0]


class Writer:
    """Draws words, names and values; no name twice in a document."""

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


# Each kind makes facts, in the order in which they have to stand, and questions: (facts, [(question, answer)]).

def plain(w):
    """What is said of one thing."""
    attribute, name, value = w.rng.choice(ATTRIBUTES), w.name(), w.value()
    sentence = w.rng.choice(("The {a} of the {n} is {v}.", "The {a} of the {n} is {v}.", "Remember: the {a} of the {n} is {v}.",
                             "The {n} has the {a} {v}."))
    return [sentence.format(a=attribute, n=name, v=value)], [(f"What is the {attribute} of the {name}?", value)]


def many_values(w):
    """Several values of one thing, to be listed in their order."""
    attribute, name = w.rng.choice(ATTRIBUTES), w.name()
    values = [w.number() for _ in range(w.rng.randint(2, 4))]
    facts = [f"One {attribute} of the {name} is {v}." for v in values]
    return facts, [(f"What is every {attribute} of the {name}?", ", ".join(values))]


def chain(w):
    """A value that goes from name to name."""
    names = [w.name() for _ in range(w.rng.randint(2, 4))]
    value = w.number()
    facts = [f"The value of {names[0]} is {value}."]
    facts += [f"The value of {b} is the value of {a}." for a, b in zip(names, names[1:])]
    return facts, [(f"What is the value of {name}?", value) for name in reversed(names)]


def friend(w):
    """Two facts that have to be put together."""
    attribute, a, b, value = w.rng.choice(ATTRIBUTES), w.name(), w.name(), w.value()
    facts = [f"The friend of the {a} is the {b}.", f"The {attribute} of the {b} is {value}."]
    if w.rng.random() < 0.5:
        facts.reverse()
    return facts, [(f"What is the {attribute} of the friend of the {a}?", value), (f"Who is the friend of the {a}?", f"the {b}")]


def frequent(w):
    """The word that a list holds most often."""
    listed = [w.word() for _ in range(w.rng.randint(3, 8))]
    most = listed[0]
    words = listed[1:] * w.rng.randint(1, 2) + [most] * w.rng.randint(4, 8)
    w.rng.shuffle(words)
    topic = w.name()
    return [f"Words of the {topic}: {' '.join(words)}."], [(f"Which word is the most frequent of the {topic}?", most)]


KINDS = {"fact": plain, "values": many_values, "chain": chain, "friend": friend, "frequent": frequent}


def filler_source(rng):
    """A function that gives the next sentence of filler."""
    verses = text.verses()[0]
    words = WORDS_BY_LENGTH[8]
    kind = rng.random()
    if kind < 0.55:  # prose
        state = [rng.randrange(len(verses))]

        def sentence():
            state[0] = (state[0] + 1) % len(verses)
            return verses[state[0]]
        return sentence
    if kind < 0.8:  # a few sentences, over and over
        few = [rng.choice(verses).split(".")[0][:120] + "." if rng.random() < 0.5
               else f"The {rng.choice(words)} is {rng.choice(words)}." for _ in range(rng.randint(1, 6))]
        state = [0]

        def sentence():
            state[0] += 1
            return few[state[0] % len(few)]
        return sentence

    def sentence():  # words without sense, in sentences
        middle = " ".join(rng.choice(words) for _ in range(rng.randint(1, 5)))
        return f"{rng.choice(('The', 'A', 'One', 'Every'))} {middle} {rng.choice(words)}."
    return sentence


def document(rng, level, n_characters):
    """Pieces of a document of about so many characters, with questions all over it."""
    writer = Writer(rng, level)
    bare = rng.random() < level.bare
    between = rng.choice(("", ":", " is", " ="))  # a bare name and its value
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

    # Where everything stands: facts in their order, their questions anywhere behind the last of them.
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
    """Nothing but English."""
    verses = text.verses()[0]
    at, pieces, n = rng.randrange(len(verses)), [], 0
    while n < n_characters:
        pieces.append(((" " if pieces else "") + verses[at % len(verses)], PROSE))
        n += len(pieces[-1][0])
        at += 1
    return pieces


def sample_text(rng):
    """For the tokenizer."""
    level = Level(kinds={kind: 1.0 for kind in KINDS})
    return "".join(piece for piece, _ in document(rng, level, 2000))
