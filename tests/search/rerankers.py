"""Re-rankers that are plain objects."""

from types import SimpleNamespace

import numpy as np


class Counting:
    """Scores a passage by how often a word is in its text, and remembers what it was asked."""

    def __init__(self, word="glacier"):
        self.word = word
        self.asked = []

    def score(self, question, passages):
        self.asked.append((question, tuple(passages)))
        return np.array([passage.text.split().count(self.word) for passage in passages], dtype=np.float32)


class CountingPairs(Counting):
    """The same, across questions too, with a card."""

    def __init__(self, word="glacier", weight=0.0):
        super().__init__(word)
        self.card = SimpleNamespace(name=f"counts {word}", fingerprint=f"counts-{word}", retrieval_weight=weight)
        self.pairs = []

    def score_pairs(self, pairs):
        self.pairs.append(list(pairs))
        return np.concatenate([super(CountingPairs, self).score(question, [passage]) for question, passage in pairs])


class Knowing:
    """Knows the texts that answer questions: they score `gain` more than others, and all scores are noisy."""

    def __init__(self, answers, gain, name="knowing"):
        self.answers, self.gain = answers, gain
        self.card = SimpleNamespace(name=name, fingerprint=f"{name}-{gain}", retrieval_weight=0.25)

    def score(self, question, passages):
        noise = [np.random.default_rng(list(passage.text.encode())).normal() for passage in passages]
        known = [self.gain * (passage.text == self.answers[question]) for passage in passages]
        return np.add(noise, known).astype(np.float32)


class Giving:
    """Gives what it was made with, whatever it is asked."""

    def __init__(self, given):
        self.given = given

    def score(self, question, passages):
        if isinstance(self.given, BaseException):
            raise self.given
        return self.given(len(passages)) if callable(self.given) else self.given


class Sleeping(Counting):
    """Takes some seconds for each character of a pair, on a clock of its own; after some passages more of them."""

    def __init__(self, seconds, *, slow=1.0, after=10**9):
        super().__init__()
        self.seconds, self.slow, self.left, self.now = seconds, slow, after, 0.0

    def clock(self):
        return self.now

    def score(self, question, passages):
        for passage in passages:
            taken = self.seconds * (len(question) + len(passage.title) + len(passage.text))
            self.now += taken * (1.0 if self.left > 0 else self.slow)
            self.left -= 1
        return super().score(question, passages)
