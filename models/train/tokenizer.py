"""The bundled model's tokenizer: a byte-level BPE with Qwen 2's pre-tokenizer, which makes every digit a token."""

import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import text

# The pre-tokenizer that libllama uses for tokenizer.ggml.pre = "qwen2".
PRE = "qwen2"
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")
SPECIAL = ["<s>", "</s>"]


def train(documents, n_vocab):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=n_vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def train_on_corpus(make_document, n_vocab, seed):
    """Trains the tokenizer on prose, lists of words, and documents of the tasks."""
    rng = random.Random(seed)
    verses = text.verses()[0]
    documents = [" ".join(verses[i:i + 20]) for i in range(0, len(verses), 20)]
    words = text.words()
    documents += [" ".join(rng.choices(words, k=200)) for _ in range(500)]
    documents += [make_document(rng) for _ in range(1500)]
    return train(documents, n_vocab)
