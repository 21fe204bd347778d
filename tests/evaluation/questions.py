"""Labelled questions about the documents of `tests/conftest.py`, and how their outcomes are read."""

QUESTIONS = [
    {"id": "q1", "question": "mountain range in Europe", "answers": ["europe"], "labels": ["alps"]},
    {"id": "q2", "question": "range in South America", "answers": ["No such words"], "labels": ["andes#0"]},
    {"id": "q3", "question": "a river", "answers": ["in the Alps"]},
    {"id": "q4", "question": "compressed files", "labels": {"gzip": 2, "rhine": 1}},
]


def ranks(evaluation, by):
    return {outcome.id: found and dict(found) for outcome in evaluation.outcomes for found in [outcome.ranks(by)]}
