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
    """Takes some seconds for each passage, on a clock of its own."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.now = list(seconds), 0.0

    def clock(self):
        return self.now

    def score(self, question, passages):
        for _ in passages:
            self.now += self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0]
        return super().score(question, passages)
