"""Answers from a real table by a real, tiny reader whose scores and spans can be worked out by hand."""

import asyncio
import dataclasses
import math

import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, ReaderError, TableError, load_reader
from dpr_lance.answering.combination import combined_answers
from dpr_lance.reader.reading import AnswerSpan, Reading
from tests.reader.tiny_late_interaction import tiny_late_interaction
from tests.reader.tiny_reader import CARD, tiny_reader

WORDS = ["paris", "london", "rome", "the", "capital", "of", "france", "is", "england", "a", "town", "on", "river"]
STRONG = {"paris": 9.0, "london": 7.0}
DOCUMENTS = [
    {"id": "fr", "title": "", "text": "The capital of France is Paris. It is a town on a river."},
    {"id": "fr2", "title": "", "text": "Paris is the capital of France."},
    {"id": "en", "title": "", "text": "The capital of England is London."},
    {"id": "none", "title": "", "text": "a river is a river"},
]
QUESTION = "capital of france"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_reader(tmp_path_factory.mktemp("reader"), words=WORDS, starts=STRONG, ends=STRONG)


@pytest.fixture
def table(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        retriever.add(DOCUMENTS)
        yield retriever


def test_the_best_answer_has_its_span_its_passages_and_its_probability(table, bundle):
    answers = table.answer(QUESTION, reader=bundle)
    best = answers.best
    assert best is answers[0]
    assert (best.text, answers.reason, answers.question) == ("Paris", None, QUESTION)
    assert best.passage.text[best.start : best.end] == "Paris"
    assert best.document_id == best.passage.document_id
    assert [source.hit.document_id for source in best.sources] == ["fr2", "fr"]
    assert best.probability == pytest.approx(sum(source.probability for source in best.sources))
    assert sum(answer.probability for answer in answers) <= 1 + 1e-6
    assert [answer.probability for answer in answers] == sorted((a.probability for a in answers), reverse=True)
    assert answers.reader == CARD.name
    assert answers.seconds["read"] > 0
    assert answers.seconds["total"] >= answers.seconds["read"]


def test_probabilities_are_those_of_the_paper(table, bundle):
    """A passage's softmax over the passages that were read, times the span's probability in it."""
    answers = table.answer(QUESTION, reader=load_reader(bundle), most=100, threshold=0)
    reader = load_reader(bundle)
    hits = table.search(QUESTION, 20)
    readings = {
        hit.id: each for hit, each in zip(hits, reader.read(QUESTION, [("", hit.text) for hit in hits]), strict=True)
    }
    total = sum(math.exp(each.score) for each in readings.values())
    for answer in answers:
        for source in answer.sources:
            reading = readings[source.hit.id]
            (span,) = [span for span in reading.spans if (span.start, span.end) == (source.start, source.end)]
            assert source.probability == pytest.approx(math.exp(reading.score) / total * span.probability, rel=1e-5)
    scores = [hit.score for hit in answers.hits]
    assert scores == sorted(scores, reverse=True)
    assert scores == [readings[hit.id].score for hit in answers.hits]
    assert [hit.rank for hit in answers.hits] == [1, 2, 3, 4]


def hit(name, text, rank):
    return dpr_lance.Hit(rank, name, name, "", text, 0.0, None, None)


def test_equal_answers_are_summed_once_and_keep_their_sources():
    hits = [hit("a", "the Eiffel Tower", 1), hit("b", "Eiffel tower!", 2), hit("c", "a tower", 3)]
    readings = [
        Reading(0.0, (AnswerSpan(0, 16, 0.5), AnswerSpan(4, 10, 0.25))),
        Reading(0.0, (AnswerSpan(0, 13, 0.75),)),
        Reading(math.log(2), (AnswerSpan(0, 7, 0.5),)),
    ]
    answers = combined_answers(hits, readings)
    assert [(answer.text, answer.passage.id) for answer in answers] == [
        ("Eiffel tower!", "b"), ("a tower", "c"), ("Eiffel", "a"),
    ]  # fmt: skip
    assert [answer.probability for answer in answers] == pytest.approx([0.3125, 0.25, 0.0625])
    assert [(source.hit.id, source.start, source.end) for source in answers[0].sources] == [("b", 0, 13), ("a", 0, 16)]
    assert combined_answers([], []) == []


def test_articles_and_marks_alone_stay_different_answers():
    hits = [hit("a", "The ! 5", 1)]
    spans = (AnswerSpan(0, 3, 0.5), AnswerSpan(4, 5, 0.3), AnswerSpan(6, 7, 0.1))
    assert [answer.text for answer in combined_answers(hits, [Reading(1.0, spans)])] == ["The", "!", "5"]


def test_an_improbable_answer_is_withheld_with_the_reason(table, bundle):
    sure = table.answer(QUESTION, reader=bundle)
    answers = table.answer(QUESTION, reader=bundle, threshold=1.0)
    assert (answers.best, len(answers), list(answers)) == (None, 0, [])
    assert answers.withheld == sure.answers
    assert "'Paris'" in answers.reason
    assert "threshold of 1" in answers.reason
    assert answers.threshold == 1.0


def test_the_threshold_of_the_card_is_the_default(table, tmp_path):
    card = dataclasses.replace(CARD, answer_threshold=1.0)
    strict = tiny_reader(tmp_path / "strict", card=card, words=WORDS, starts=STRONG, ends=STRONG)
    assert table.answer(QUESTION, reader=strict).reason is not None
    assert table.answer(QUESTION, reader=strict, threshold=0).best.text == "Paris"


def test_k_filters_and_modes_decide_what_is_read(table, bundle):
    assert len(table.answer(QUESTION, 1, reader=bundle).hits) == 1
    answers = table.answer(QUESTION, reader=bundle, where="document_id = 'en'")
    assert answers.best.text == "London"
    assert table.answer(QUESTION, reader=bundle, mode="bm25").hits.mode == "bm25"
    assert len(table.answer(QUESTION, reader=bundle, most=1)) == 1


def test_batches_and_asynchronous_answers_are_the_same(table, bundle):
    questions = [QUESTION, "capital of england", "river"]
    reader = load_reader(bundle)
    together = table.answer(questions, reader=reader)
    assert [answers.answers for answers in together] == [
        table.answer(each, reader=reader).answers for each in questions
    ]
    assert asyncio.run(table.answer_async(QUESTION, reader=reader)).answers == together[0].answers
    assert table.answer([], reader=reader) == []


def test_nothing_found_is_an_empty_result(tmp_path, bundle):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as retriever:
        answers = retriever.answer(QUESTION, reader=bundle)
        assert (answers.best, answers.reason, len(answers.hits)) == (None, "no passage was found", 0)
        retriever.add(DOCUMENTS)
        answers = retriever.answer(QUESTION, reader=bundle, where="document_id = 'nowhere'")
        assert (answers.best, answers.reason) == (None, "no passage was found")


def test_a_reader_without_spans_is_refused(table, tmp_path):
    selecting = tiny_reader(tmp_path / "s", card=dataclasses.replace(CARD, extracts=False), words=WORDS)
    with pytest.raises(ReaderError, match="only scores passages"):
        table.answer(QUESTION, reader=selecting)
    late = tiny_late_interaction(tmp_path / "l")
    with pytest.raises(ReaderError, match="only scores passages"):
        table.answer(QUESTION, reader=late)
    with pytest.raises(ReaderError, match="missing"):
        table.answer(QUESTION, reader=tmp_path / "missing")


def test_wrong_arguments_are_named(table, bundle):
    reader = load_reader(bundle)
    for wrong, message in (
        ({"k": 0}, "k=0"),
        ({"question": " "}, "blank"),
        ({"threshold": 2}, "threshold=2"),
        ({"most": 0}, "most=0"),
        ({"reader": 5}, "reader=5"),
        ({"mode": "x"}, "mode="),
    ):
        with pytest.raises(InvalidInputError, match=message):
            table.answer(**({"question": QUESTION, "reader": reader} | wrong))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. Here Paris shines. The end.", "Here **Paris** shines."),
        ("Paris", "**Paris**"),
        ("東京です。パリ Paris が好き。終わり。", "パリ **Paris** が好き。"),
        ("First.\n\nIn Paris 🗼\nall is well", "In **Paris** 🗼 all is well"),
    ],
)
def test_the_sentence_of_an_answer_has_it_marked(text, expected):
    start = text.index("Paris")
    (answer,) = combined_answers([hit("a", text, 1)], [Reading(0.0, (AnswerSpan(start, start + 5, 1.0),))])
    assert answer.sentence() == expected


class TestThreshold:
    """`calibrate_answers`: Paris is in the table, and most probable where France is asked for; other towns are not."""

    def questions(self):
        known = [{"question": f"capital of france {number}", "answers": ["Paris"]} for number in range(15)]
        unknown = [{"question": f"a river {number}", "answers": []} for number in range(15)]
        return [each for pair in zip(known, unknown, strict=True) for each in pair]

    def test_it_divides_the_questions_with_an_answer_from_the_others(self, table, bundle):
        assert table.answer("a river 3", reader=bundle).best is not None
        found = table.calibrate_answers(self.questions(), reader=bundle)
        assert 0 < found.threshold < 1
        assert (found.questions, found.unanswerable, found.reader) == (30, 15, CARD.name)
        assert (found.before, found.after) == (0.5, 1.0)
        assert table.answer(QUESTION, reader=bundle).best.text == "Paris"
        answers = table.answer("a river 3", reader=bundle)
        assert answers.best is None
        assert answers.threshold == found.threshold

    def test_it_is_kept_for_this_reader_and_this_table(self, table, bundle, tmp_path):
        found = table.calibrate_answers(self.questions(), reader=bundle)
        with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(64)) as again:
            assert again.answer("a river 3", reader=bundle).threshold == found.threshold
            assert again.info().answers == found
            card = dataclasses.replace(CARD, fingerprint="another")
            other = tiny_reader(tmp_path / "o", card=card, words=WORDS, starts=STRONG, ends=STRONG)
            assert again.answer("a river 3", reader=other).threshold == 0
            again.calibrate()  # which is kept apart
            assert again.answer("a river 3", reader=bundle).threshold == found.threshold

    def test_a_threshold_that_is_no_better_is_not_taken(self, table, tmp_path):
        """Known and unknown answers are equally probable."""
        questions = [
            {"id": str(number), "question": QUESTION, "answers": ["Paris"] if number % 2 else []}
            for number in range(30)
        ]
        card = dataclasses.replace(CARD, answer_threshold=0.3)
        careful = tiny_reader(tmp_path / "r", card=card, words=WORDS, starts=STRONG, ends=STRONG)
        found = table.calibrate_answers(questions, reader=careful)
        assert (found.threshold, found.before, found.after) == (0.3, 0.5, 0.5)

    def test_questions_of_one_kind_or_with_labels_alone_are_refused(self, table, bundle):
        known = [each for each in self.questions() if each["answers"]]
        for questions in ([], known * 1, self.questions()[:10]):
            with pytest.raises(InvalidInputError, match="of both kinds"):
                table.calibrate_answers(questions, reader=bundle)
        with pytest.raises(InvalidInputError, match="labels and no answers"):
            table.calibrate_answers([{"question": "x", "labels": ["fr"]}], reader=bundle)

    def test_a_table_is_needed(self, tmp_path, bundle):
        with dpr_lance.connect(tmp_path / "u") as empty, pytest.raises(TableError, match="does not exist yet"):
            empty.calibrate_answers(self.questions(), reader=bundle)
