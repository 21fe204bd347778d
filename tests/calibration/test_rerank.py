"""Calibrating the re-ranking of a real table: what is chosen, stored, used and dropped again."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import dpr_lance
from dpr_lance import InvalidInputError, ReaderError, RerankCalibration, evaluate
from dpr_lance.cli import app as cli
from dpr_lance.records.table_info import Calibration
from dpr_lance.table.tuning import keep_calibration
from tests import tables
from tests.calibration.labelled import questions_of
from tests.reader.tiny_reader import CARD, tiny_reader
from tests.search.rerankers import Counting, Knowing
from tests.tables import WORDS, WeightedEncoder, random_documents

BY_DEFAULT = RerankCalibration("a reader", "123", "/nowhere/reader", 0.5, True, 60, 0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def documents():
    return random_documents(11, 300)


@pytest.fixture(scope="module")
def asked(documents):
    return questions_of(documents, 120)


@pytest.fixture(scope="module")
def answers(documents, asked):
    texts = {document["id"]: document["text"] for document in documents}
    return {question["question"]: texts[question["labels"][0]] for question in asked}


@pytest.fixture
def table(tmp_path, documents):
    with tables.opened(tmp_path / "t", WeightedEncoder(20.0)) as retriever:
        retriever.add(documents, splitter=None)
        retriever.optimize()
        yield retriever


def test_labelled_questions_choose_a_weight_that_is_stored_and_used(table, asked, answers, tmp_path):
    reader = Knowing(answers, 2.0)
    assert table.search(asked[0]["question"], rerank=reader).retrieval_weight == 0.25
    found = table.calibrate(asked, rerank=reader)
    chosen = found.rerank
    assert (chosen.reader, chosen.fingerprint, chosen.source) == ("knowing", "knowing-2.0", None)
    assert chosen.combined >= max(chosen.retrieval_alone, chosen.reader_alone)
    assert chosen.combined > chosen.retrieval_alone + 0.05
    assert chosen.questions == 120
    assert table.info().calibration == found
    assert json.loads(json.dumps(dataclasses.asdict(found)))["rerank"]["weights"]
    with dpr_lance.connect(tmp_path / "t", encoder=WeightedEncoder(20.0)) as again:
        assert again.info().calibration == found
        hits = again.search(asked[0]["question"], rerank=Knowing(answers, 2.0))
        assert hits.retrieval_weight == chosen.retrieval_weight
        # With another reader the weight on its card applies.
        assert again.search(asked[0]["question"], rerank=Knowing(answers, 3.0)).retrieval_weight == 0.25
        assert again.search(asked[0]["question"], rerank=Counting()).retrieval_weight == 0.0
        # An object cannot be loaded again, so it is never the default.
        assert not chosen.by_default
        assert again.search(asked[0]["question"]).reranked == 0


def test_what_was_chosen_is_measured_as_searches_are(table, asked, answers):
    reader = Knowing(answers, 2.0)
    chosen = table.calibrate(asked, rerank=reader).rerank
    for weights, expected in ((0.0, chosen.reader_alone), (chosen.retrieval_weight, None)):
        ranks = []
        for question in asked:
            hits = table.search(question["question"], 30, rerank=reader)
            parts = (
                {hit.id: hit.rerank_score for hit in hits} if weights == 0.0 else {hit.id: hit.score for hit in hits}
            )
            right = next((hit.id for hit in hits if hit.document_id in question["labels"]), None)
            ranks.append(0 if right is None else 1 / (1 + sum(part > parts[right] for part in parts.values())))
        mean = sum(ranks) / len(ranks)
        point = next((point.mrr for point in chosen.weights if point.weight == weights), None)
        assert mean == pytest.approx(point if expected is None else expected, abs=0.01)


def lanterns(hit):
    return [hit.title, *hit.text.split()].count("lantern")


@pytest.fixture
def lantern_reader(tmp_path):
    """A bundle whose scores grow by 10 with each lantern in a passage."""
    return tiny_reader(tmp_path / "reader", words=WORDS, bias={"lantern": 10.0})


@pytest.fixture
def asked_for_lanterns(table):
    """Questions whose labels are those of their hits with most lanterns."""
    choose, found = np.random.default_rng(3), []
    for number in range(60):
        question = f"{choose.choice(WORDS)} {choose.choice(WORDS)} number {number}"
        hits = table.search(question, 30)
        most = max(lanterns(hit) for hit in hits)
        found.append({"question": question, "labels": [hit.document_id for hit in hits if lanterns(hit) == most]})
    return found


def test_a_bundle_that_pays_becomes_the_default(table, lantern_reader, asked_for_lanterns, tmp_path):
    chosen = table.calibrate(asked_for_lanterns, rerank=str(lantern_reader)).rerank
    assert (chosen.reader, chosen.source, chosen.by_default) == ("tiny reader", str(lantern_reader), True)
    assert chosen.reader_alone > chosen.retrieval_alone + 0.3
    question = asked_for_lanterns[0]["question"]
    hits = table.search(question)
    assert (hits.reranked, hits.reranker, hits.not_reranked) == (30, "tiny reader", None)
    assert hits.retrieval_weight == chosen.retrieval_weight
    assert hits.hits == table.search(question, rerank=lantern_reader).hits
    assert table.search(question, rerank=False).reranked == 0
    assert [each.reranked for each in table.search([question, "comet"], candidates=5)] == [5, 5]
    assert evaluate(table, asked_for_lanterns, modes=["hybrid"]).rows[0].by_label[1].mean < 0.9  # never by default
    with dpr_lance.connect(tmp_path / "t", encoder=WeightedEncoder(20.0)) as again:
        again.warm()
        shutil.rmtree(lantern_reader)  # a retriever loads it once
        assert again.search(question).hits == hits.hits
    with dpr_lance.connect(tmp_path / "t", encoder=WeightedEncoder(20.0)) as later:
        assert later.search(question).reranked == 0
        assert f"{lantern_reader} does not exist" in later.search(question).not_reranked


def test_another_reader_in_its_place_has_its_own_weight(table, lantern_reader, asked_for_lanterns, tmp_path):
    table.calibrate(asked_for_lanterns, rerank=lantern_reader)
    shutil.rmtree(lantern_reader)
    card = dataclasses.replace(CARD, name="a later one", fingerprint="later", retrieval_weight=3.0)
    tiny_reader(tmp_path / "reader", words=WORDS, card=card)
    with dpr_lance.connect(tmp_path / "t", encoder=WeightedEncoder(20.0)) as again:
        hits = again.search(asked_for_lanterns[0]["question"])
        assert (hits.reranked, hits.reranker, hits.retrieval_weight) == (30, "a later one", 3.0)


def test_a_later_calibration_without_a_reader_keeps_it_and_false_drops_it(table, asked, answers):
    chosen = table.calibrate(asked, rerank=Knowing(answers, 2.0)).rerank
    texts = [question["question"] for question in asked[:30]]
    for later in (asked, texts, None):
        assert table.calibrate(later).rerank == chosen
    again = table.calibrate(asked, rerank=Knowing(answers, 2.0)).rerank
    assert again.combined >= chosen.combined
    assert table.calibrate(texts, rerank=False).rerank is None
    assert table.info().calibration.rerank is None


def test_what_cannot_be_calibrated_is_refused_before_any_work(table, asked, answers):
    reader = Knowing(answers, 2.0)
    for few in (None, ["river"], asked[:49]):
        with pytest.raises(InvalidInputError, match=r"^rerank=.*takes 50 labelled questions"):
            table.calibrate(few, rerank=reader)
    with pytest.raises(InvalidInputError, match=r"^rerank=.*needs a `card` with `name` and `fingerprint`"):
        table.calibrate(asked, rerank=Counting())
    with pytest.raises(InvalidInputError, match=r"^rerank=7: give True for the packaged reader"):
        table.calibrate(asked, rerank=7)
    assert table.info().calibration is None


def test_a_default_reader_that_is_not_here_is_named(table, tmp_path):
    found = dataclasses.replace(table.calibrate(), rerank=BY_DEFAULT)
    keep_calibration(tables.store_in(tmp_path / "t"), found)
    hits = table.search("river bridge")
    assert (hits.reranked, hits.reranker, hits.fallback) == (0, None, None)
    assert "/nowhere/reader" in hits.not_reranked
    assert hits.hits == table.search("river bridge", rerank=False).hits
    assert table.search("river bridge", rerank=False).not_reranked is None
    assert table.search("river bridge", rerank=Counting()).reranked == 30
    with pytest.raises(ReaderError, match="/nowhere/reader"):
        table.warm()
    with pytest.raises(ReaderError, match="/nowhere/reader"):
        table.search("river bridge", rerank="/nowhere/reader")


def test_new_vectors_drop_it(table, tmp_path):
    keep_calibration(tables.store_in(tmp_path / "t"), dataclasses.replace(table.calibrate(), rerank=BY_DEFAULT))
    table.reembed(WeightedEncoder(7.0, dimension=16))
    assert table.info().calibration is None
    assert table.search("river bridge").not_reranked is None


def test_records_of_earlier_versions_open(table, tmp_path):
    found = table.calibrate()
    fields = tables.store_in(tmp_path / "t").remembered.values()["calibration"]
    assert "rerank" not in fields  # nor do earlier versions know the field
    assert Calibration.from_fields(fields) == found


def test_info_on_the_command_line(table, tmp_path, capsys):
    keep_calibration(tables.store_in(tmp_path / "t"), dataclasses.replace(table.calibrate(), rerank=BY_DEFAULT))
    assert cli.run(["info", str(tmp_path / "t")]) == 0
    assert "a reader by default, retrieval weight 0.5" in capsys.readouterr().out
    assert cli.run(["info", str(tmp_path / "t"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["rerank"]["fingerprint"] == "123"
