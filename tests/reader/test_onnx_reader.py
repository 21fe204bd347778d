"""The reader's runtime on real graphs, whose scores and spans can be computed by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.bundle import write_reader_bundle
from dpr_lance.reader.onnx_reader import PAIRS, Reader
from dpr_lance.reader.reading import AnswerSpan
from dpr_lance.reader.reranker import PassageText
from tests.contracts.reranker_contract import RerankerContract
from tests.encoders.tiny_bundle import rewritten
from tests.reader.tiny_reader import CARD, tiny_reader, tiny_reader_graph, tiny_reader_tokenizer

WORDS = ["capital", "france", "paris", "is", "the", "of", "what", "rome", "in", "tower", "how", "tall", "a"]
QUESTION = "what is the capital of france"
ANSWERS = {"paris": 9.0, "rome": 5.0}


@pytest.fixture
def reader(tmp_path):
    return Reader(tiny_reader(tmp_path, words=WORDS, starts=ANSWERS, ends=ANSWERS))


class TestReaderContract(RerankerContract):
    @pytest.fixture
    def reranker(self, reader):
        return reader


class WordsInCommon:
    """A re-ranker of a user: an object with one method."""

    def score(self, question, passages):
        asked = set(question.lower().split())
        return np.array([len(asked & set(text.lower().split())) for _, text in passages], dtype=np.float32)


class TestPlainObjectContract(RerankerContract):
    @pytest.fixture
    def reranker(self):
        return WordsInCommon()


def test_scores_are_those_of_the_graph(reader):
    """Five words of the question stand in the first passage, `is` in the second, also in its title."""
    passages = [("", "Paris is the capital of France."), ("Rome is", "Rome is in Italy."), ("", "unrelated")]
    np.testing.assert_array_equal(reader.score(QUESTION, passages), np.array([5, 2, 0], dtype=np.float32))


def test_pairs_of_several_questions_share_batches_and_keep_their_order(reader):
    pairs = [("what is paris", ("", "paris")), ("rome", ("Rome", "rome in")), ("what is paris", ("", "what is"))]
    np.testing.assert_array_equal(reader.score_pairs(pairs), np.array([1, 2, 2], dtype=np.float32))
    assert reader.score_pairs([]).shape == (0,)


def test_more_pairs_than_are_batched_together(reader):
    texts = [" ".join(["paris"] * (1 + index % 7)) for index in range(PAIRS + 10)]
    expected = [1 + index % 7 for index in range(PAIRS + 10)]
    np.testing.assert_array_equal(reader.score("paris", [("", text) for text in texts]), expected)
    readings = reader.read("paris", [("", text) for text in texts], spans=1)
    assert [reading.score for reading in readings] == expected


@pytest.mark.parametrize(("precision", "expected"), [("int8", [101, 102, 101]), ("fp32", [301, 302, 301])])
def test_int8_runs_one_sequence_at_a_time(tmp_path, precision, expected):
    """The graph adds 100 to a score for each sequence of the run."""
    graph = tiny_reader_graph(tmp_path / "graph.onnx", words=WORDS, counts_batch=True)
    files = {"tokenizer.json": tiny_reader_tokenizer(tmp_path, WORDS), "reader.onnx": graph}
    reader = Reader(write_reader_bundle(tmp_path / "reader", CARD, files, precision=precision))
    assert reader.score("paris", [("", "paris"), ("", "paris paris"), ("", "in paris")]).tolist() == expected


def test_scores_need_the_first_token_alone(tmp_path):
    """A graph with the input `rows` computes one to score, and all to find spans. It adds 1000 to a score for each."""
    graph = tiny_reader_graph(tmp_path / "graph.onnx", words=WORDS, starts=ANSWERS, ends=ANSWERS, has_rows=True)
    files = {"tokenizer.json": tiny_reader_tokenizer(tmp_path, WORDS), "reader.onnx": graph}
    reader = Reader(write_reader_bundle(tmp_path / "reader", CARD, files, precision="int8"))
    passages = [("", "it is paris"), ("", "rome")]
    assert reader.score("paris", passages).tolist() == [1001, 1000]
    readings = reader.read("paris", passages, spans=1)
    assert [reading.score for reading in readings] == [8001, 5000]  # with [CLS], the question and two [SEP]
    assert [(reading.spans[0].start, reading.spans[0].end) for reading in readings] == [(6, 11), (0, 4)]


def test_a_long_passage_has_the_score_of_its_best_window(tmp_path):
    """The answer is beyond what one input holds."""
    reader = Reader(tiny_reader(tmp_path, words=WORDS, starts=ANSWERS, ends=ANSWERS, card=replace(CARD, stride=30)))
    text = "in " * 100 + "the capital of france is paris." + " in" * 100
    assert reader.score("the capital of france", [("", text)]).tolist() == [4]
    (reading,) = reader.read("the capital of france", [("", text)], spans=1)
    assert reading.score == 4
    (span,) = reading.spans
    assert text[span.start : span.end] == "paris"
    # One token of e⁹ among 206 of e⁰ on both sides, though several windows hold the same tokens.
    assert span.probability == pytest.approx((math.exp(9) / (math.exp(9) + 206)) ** 2)


def test_spans_have_their_characters_and_probabilities(reader):
    text = "It is Paris, not Rome"
    (reading,) = reader.read(QUESTION, [PassageText("Paris", text)], spans=2)
    tokens = ["i", "t", "is", "paris", ",", "n", "o", "t", "rome"]
    total = sum(math.exp(ANSWERS.get(token, 0.0)) for token in tokens)
    assert reading.spans == (
        AnswerSpan(6, 11, pytest.approx((math.exp(9) / total) ** 2)),
        AnswerSpan(17, 21, pytest.approx((math.exp(5) / total) ** 2)),
    )
    assert (text[6:11], text[17:21]) == ("Paris", "Rome")


def test_no_span_is_in_the_title_or_in_the_question(tmp_path):
    for style in ("dpr", "pair"):
        card = replace(CARD, input_style=style)
        reader = Reader(tiny_reader(tmp_path / style, words=WORDS, starts=ANSWERS, ends=ANSWERS, card=card))
        (reading,) = reader.read("what is paris", [("Paris", "is it rome")], spans=20)
        assert reading.spans[0].start == 6
        assert all(0 <= span.start < span.end <= 10 for span in reading.spans)
        assert sum(span.probability for span in reading.spans) <= 1


def test_overlapping_spans_come_when_asked_for(reader):
    (reading,) = reader.read("what", [("", "a b c d a")], spans=50)
    assert len({place for span in reading.spans for place in range(span.start, span.end)}) == sum(
        span.end - span.start for span in reading.spans
    )
    (reading,) = reader.read("what", [("", "a b c d a")], spans=50, overlapping=True)
    assert len(reading.spans) == 15  # 5 + 4 + 3 + 2 + 1
    assert {(span.start, span.end) for span in reading.spans} >= {(0, 9), (0, 1), (8, 9)}


def test_answers_have_as_many_tokens_as_the_card_allows(tmp_path):
    card = replace(CARD, span_max_tokens=2)
    reader = Reader(tiny_reader(tmp_path, words=WORDS, starts={"paris": 9}, ends={"rome": 9}, card=card))
    (reading,) = reader.read("what", [("", "paris in rome")], spans=99, overlapping=True)
    found = {"paris in rome"[span.start : span.end] for span in reading.spans}
    assert found == {"paris", "in", "rome", "paris in", "in rome"}


def test_a_reader_without_selection_compares_spans_with_no_answer(tmp_path):
    """Its score is the best span's logits minus those of [CLS], here 9 + 9 - 2 - 1."""
    card = replace(CARD, selects=False)
    starts, ends = ANSWERS | {"[CLS]": 2.0}, ANSWERS | {"[CLS]": 1.0}
    reader = Reader(tiny_reader(tmp_path, words=WORDS, starts=starts, ends=ends, card=card))
    readings = reader.read(QUESTION, [("", "it is Paris"), ("Paris", "Rome"), ("", "in " * 100 + "paris")])
    assert [reading.score for reading in readings] == [15, 7, 15]
    for score in (lambda: reader.score(QUESTION, [("", "a")]), lambda: reader.score_pairs([(QUESTION, ("", "a"))])):
        with pytest.raises(ReaderError, match="tiny reader does not score passages"):
            score()


def test_a_reader_without_spans_only_scores(tmp_path):
    reader = Reader(tiny_reader(tmp_path, words=WORDS, card=replace(CARD, extracts=False)))
    assert reader.score(QUESTION, [("", "paris is")]).tolist() == [1]
    with pytest.raises(ReaderError, match="tiny reader finds no answer spans"):
        reader.read(QUESTION, [("", "paris")])


def test_a_text_that_the_tokenizer_drops_is_scored_and_has_no_spans(reader):
    (reading,) = reader.read(QUESTION, [("What is", "\u200b\x01")])
    assert reading.score == 2
    assert reading.spans == ()
    assert reader.score(QUESTION, [("What is", "\u200b\x01")]).tolist() == [2]


def test_token_types_are_zero_when_the_card_says_so(tmp_path):
    """The graph counts tokens behind the question only where their type is 1."""
    reader = Reader(tiny_reader(tmp_path, words=WORDS, card=replace(CARD, zero_token_types=True)))
    assert reader.score(QUESTION, [("", "paris is")]).tolist() == [0]


@pytest.mark.parametrize("blank", ["", " ", "\n\t\u00a0\u2003"])
def test_blank_questions_and_texts_are_refused_and_named(reader, blank):
    for call in (reader.score, reader.read):
        with pytest.raises(InvalidInputError, match="question is blank"):
            call(blank, [("", "a")])
        with pytest.raises(InvalidInputError, match=r"passages\[1\] is blank"):
            call("a", [("", "a"), ("title", blank)])
    with pytest.raises(InvalidInputError, match=r"the question of pairs\[1\] is blank"):
        reader.score_pairs([("a", ("", "a")), (blank, ("", "a"))])
    with pytest.raises(InvalidInputError, match=r"pairs\[0\] is blank"):
        reader.score_pairs([("a", ("", blank))])


def test_a_question_without_tokens_is_refused(reader):
    for call in (reader.score, reader.read):
        with pytest.raises(InvalidInputError, match=r"question is blank to the reader's tokenizer: '\\u200b'"):
            call("\u200b", [("", "a")])
    with pytest.raises(InvalidInputError, match=r"the question of pairs\[1\] is blank to the reader's tokenizer"):
        reader.score_pairs([("a", ("", "a")), ("\u200b", ("", "a"))])


@pytest.mark.parametrize(
    ("passages", "message"),
    [
        ("a text", r"passages='a text': give a sequence of \(title, text\) pairs"),
        (["a text"], r"passages\[0\]='a text': give a pair \(title, text\)"),
        ([("", "a"), ("a", "b", "c")], r"passages\[1\]="),
        ([("", 3)], r"passages\[0\]: text must be a string, it is int"),
        ([(None, "a")], r"passages\[0\]: title must be a string"),
        ([("", "a \ud800")], r"passages\[0\]: text has a lone surrogate"),
    ],
)
def test_what_is_no_passage_is_refused(reader, passages, message):
    for call in (reader.score, reader.read):
        with pytest.raises(InvalidInputError, match=message):
            call("a", passages)


@pytest.mark.parametrize("pairs", ["ab", [("a", "bc")], [("a",)], [3], [("a", ("b", "c"), 1)], [(3, ("", "a"))]])
def test_what_is_no_pair_is_refused(reader, pairs):
    with pytest.raises(InvalidInputError, match="pairs"):
        reader.score_pairs(pairs)


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", None, True])
def test_numbers_are_checked(reader, value):
    with pytest.raises(InvalidInputError, match=r"spans=.*at least 1 is needed"):
        reader.read("a", [("", "a")], spans=value)
    if value is not None:
        with pytest.raises(InvalidInputError, match=r"threads=.*at least 1 is needed"):
            Reader(reader.bundle, threads=value)
    if value is not True:
        with pytest.raises(InvalidInputError, match=r"overlapping=.*give True or False"):
            reader.read("a", [("", "a")], overlapping=value)


@pytest.mark.parametrize("place", ["bias", "starts", "ends"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_an_error(tmp_path, place, value):
    reader = Reader(tiny_reader(tmp_path, words=WORDS, **{place: {"rome": value}}))
    assert reader.read("a", [("", "a")])
    with pytest.raises(ReaderError, match=r"reader\.onnx gave .* NaN or infinite values.*export the reader again"):
        reader.read("a", [("", "a"), ("", "in Rome")])


@pytest.mark.parametrize(
    ("fields", "made", "message"),
    [
        ({}, {"selects": False}, "named 'select'"),
        ({}, {"extracts": False}, "named 'start'"),
    ],
)
def test_a_graph_without_the_outputs_of_its_card_is_named(tmp_path, fields, made, message):
    folder = tiny_reader(tmp_path, words=WORDS, card=replace(CARD, **fields))
    rewritten(folder, "reader.onnx", tiny_reader_graph(tmp_path / "other.onnx", words=WORDS, **made).read_bytes())
    with pytest.raises(ReaderError, match=rf"reader\.onnx is not the graph of a reader: .*{message}"):
        Reader(folder).score("a", [("", "a")])


def test_a_graph_that_fails_is_named(tmp_path):
    """Its tables have fewer rows than the tokenizer has tokens."""
    folder = tiny_reader(tmp_path, words=WORDS)
    tokenizer = tiny_reader_tokenizer(tmp_path, [*WORDS, "further"])
    rewritten(folder, "tokenizer.json", tokenizer.read_bytes())
    reader = Reader(folder)
    with pytest.raises(ReaderError, match=r"reader\.onnx failed on sequences of"):
        reader.score("a", [("", "further")])
    assert reader.score("a", [("", "a")]).tolist() == [1]


@pytest.mark.parametrize(
    "content", [b"{}", b"no", b'{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_a_tokenizer_that_cannot_be_used_is_named(tmp_path, content):
    folder = tiny_reader(tmp_path, words=WORDS)
    rewritten(folder, "tokenizer.json", content)
    with pytest.raises(ReaderError, match=r"tokenizer\.json cannot be used"):
        Reader(folder).score("a", [("", "a")])


@pytest.mark.parametrize("name", ["reader.onnx", "tokenizer.json"])
def test_damaged_contents_are_named_at_the_first_use(tmp_path, name):
    folder = tiny_reader(tmp_path, words=WORDS)
    reader = Reader(folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ReaderError, match=rf"{name} is damaged \(its sha256"):
        reader.score("a", [("", "a")])
