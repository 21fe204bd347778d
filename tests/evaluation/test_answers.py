"""Exact match and F1 of a tiny reader's answers, over searches and over the labelled passages: hand-worked."""

import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, evaluate_answers, load_reader
from tests.reader.tiny_reader import CARD, tiny_reader

WORDS = ["paris", "london", "great", "capital", "of", "france", "england", "is", "the", "a", "river", "mouse"]
STARTS = {"paris": 9.0, "london": 9.0, "great": 9.5}
ENDS = {"paris": 9.0, "london": 9.0}
DOCUMENTS = [
    {"id": "fr", "text": "the capital of france is paris"},
    {"id": "en", "text": "the capital of england is great london"},
    {"id": "mouse", "text": "a mouse is a mouse"},
]
QUESTIONS = [
    {"id": "right", "question": "capital of france", "answers": ["Rome", "Paris."], "labels": ["fr"]},
    {"id": "near", "question": "capital of england", "answers": ["London"], "labels": ["en#0"]},
    {"id": "wrong", "question": "capital of france", "answers": ["a river"]},
    {"id": "unlabelled", "question": "mouse", "labels": ["mouse"]},
]


@pytest.fixture
def reader(tmp_path):
    return load_reader(tiny_reader(tmp_path / "r", words=WORDS, starts=STARTS, ends=ENDS))


@pytest.fixture
def table(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(256)) as retriever:
        retriever.add(DOCUMENTS)
        yield retriever


def test_the_rows_are_those_of_hand_worked_questions(table, reader):
    """The best answers are Paris (1, 1), great London (0, 2/3: one word of two and of one), and Paris again (0, 0)."""
    found = evaluate_answers(table, QUESTIONS, ks=(1, 3), reader=reader)
    assert (found.questions, found.skipped, found.reader) == (3, 1, CARD.name)
    names = ["bm25", "dense", "hybrid", "hybrid+reader"]
    assert [(row.name, row.k) for row in found.rows] == [*((n, k) for n in names for k in (1, 3)), ("gold", 0)]
    for row in found.rows:
        if row.name != "gold":
            assert row.questions == 3
            assert row.exact_match.mean == pytest.approx(1 / 3)
            assert row.f1.mean == pytest.approx((1 + 2 / 3) / 3)
            assert row.f1.low <= row.f1.mean <= row.f1.high
    gold = found.row("gold")
    assert (gold.questions, gold.exact_match.mean) == (2, 0.5)
    assert gold.f1.mean == pytest.approx((1 + 2 / 3) / 2)


def test_worse_retrieval_gives_worse_answers(table, tmp_path):
    """BM25 finds nothing with words that no passage has; reading more passages finds the answer."""
    reader = load_reader(tiny_reader(tmp_path / "b", words=WORDS, starts=STARTS, ends=ENDS, bias={"paris": 9.0}))
    questions = [{"question": "a mouse", "answers": ["paris"]}]
    found = evaluate_answers(table, questions, ks=(1, 3), modes=["dense"], reader=reader)
    assert [found.row("dense", k).exact_match.mean for k in (1, 3)] == [0.0, 1.0]
    nothing = evaluate_answers(
        table, [{"question": "words elsewhere", "answers": ["x"]}], ks=(1,), modes=["bm25"], reader=reader
    )
    assert nothing.row("bm25", 1).f1.mean == 0


def test_progress_is_reported(table, reader):
    advances = []
    evaluate_answers(table, QUESTIONS, ks=(1,), modes=["bm25"], reader=reader, progress=advances.append)
    assert [(each.stage, each.done) for each in advances] == [("questions", 4)]


def test_what_cannot_be_measured_is_named(table, reader):
    with pytest.raises(InvalidInputError, match="no question with answers"):
        evaluate_answers(table, QUESTIONS[3:], reader=reader)
    with pytest.raises(InvalidInputError, match="there is no row x at 2; there are bm25 at 1, gold at 0"):
        evaluate_answers(table, QUESTIONS, ks=(1,), modes=["bm25"], reader=reader).row("x", 2)
    for wrong in ({"ks": [0]}, {"modes": ["x"]}, {"reader": 5}):
        with pytest.raises(InvalidInputError, match=f"{next(iter(wrong))}="):
            evaluate_answers(table, QUESTIONS, **({"reader": reader} | wrong))
