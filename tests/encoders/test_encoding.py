"""Texts that an encoder makes no vector of, and encoders that fail: nothing else is lost, and everything is named."""

import json
import pickle

import lancedb
import pytest

import dpr_lance
from dpr_lance import EncoderError, HashEncoder, InvalidInputError
from dpr_lance.cli import app as cli
from dpr_lance.encoders.encoding import UnencodableError, encoded_passages, encoded_questions
from dpr_lance.encoders.loading import DEFAULT_ENCODER
from tests.encoders.picky import BAD, Picky

PAGE = "\ufffd" * 40
FAULTS = ["no tokens", "NaN", "error", "our error", "panic", "shape"]


def version_of(folder):
    return lancedb.connect(folder).open_table("passages").version


def passages(count, *bad):
    return [{"id": f"d{n}", "text": f"{BAD if n in bad else 'river'} number {n}"} for n in range(count)]


@pytest.fixture(params=["no tokens", "NaN"])
def picky(request):
    return Picky(request.param)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_passage_without_a_vector_is_stored_found_counted_and_named(folder, fault):
    picky = Picky(fault)
    with dpr_lance.connect(folder, encoder=picky) as retriever:
        report = retriever.add(passages(300, 7, 200), splitter=None, on_error="skip")
        assert (report.documents_added, report.documents_skipped, report.passages_embedded) == (300, 0, 298)
        assert report.passages_without_vector == 2
        assert [each.place for each in report.without_vector] == ["d7#0", "d200#0"]
        assert all(each.reason for each in report.without_vector)
        info = retriever.info()
        assert (info.passages, info.embedded) == (300, 298)
        assert [passage.embedded for passage in retriever.get(["d7", "d8"])] == [False, True]
        assert {hit.id for hit in retriever.search(BAD, mode="bm25")} == {"d7#0", "d200#0"}
        assert len(retriever.search("river number 8", 3, mode="dense")) == 3


def test_embed_comes_to_an_end_and_says_what_is_left(folder, monkeypatch, picky):
    monkeypatch.setattr("dpr_lance.ingest.embedding.PLANNED_ROWS", 3)  # less than there are passages without a vector
    seen = []
    with dpr_lance.connect(folder, encoder=picky) as retriever:
        retriever.add(passages(12, 0, 1, 2, 3, 4), splitter=None, embed=False)
        report = retriever.embed(progress=seen.append)
        assert (report.passages_embedded, report.passages_without_vector) == (7, 5)
        assert (seen[-1].passages, seen[-1].passages_total) == (12, 12)
        version = version_of(folder)
        again = retriever.embed()
        assert (again.passages_embedded, again.passages_without_vector) == (0, 5)
        assert version_of(folder) == version  # nothing is written where nothing is gained


def test_adding_such_a_document_again_writes_nothing(folder):
    with dpr_lance.connect(folder, encoder=Picky()) as retriever:
        retriever.add(passages(5, 2))
        version = version_of(folder)
        report = retriever.add(passages(5, 2))
        assert (report.documents_unchanged, report.passages_added, report.passages_without_vector) == (5, 0, 1)
        assert version_of(folder) == version


def test_equal_passages_without_a_vector_are_tried_once_and_all_named(folder):
    encoder = Picky()
    with dpr_lance.connect(folder, encoder=encoder) as retriever:
        report = retriever.add([{"id": name, "text": f"{BAD} page"} for name in "abc"])
        assert report.passages_without_vector == 3
        assert [each.place for each in report.without_vector] == ["a#0", "b#0", "c#0"]
        assert encoder.asked == [[f"{BAD} page"]]


def test_a_reembedding_ends_too(folder, picky):
    with dpr_lance.connect(folder, encoder=HashEncoder(32)) as retriever:
        retriever.add(passages(20, 3))
        seen = []
        report = retriever.reembed(picky, progress=seen.append)
        assert (report.passages_embedded, report.passages_without_vector) == (19, 1)
        assert report.without_vector[0].place == "d3#0"
        assert (seen[-1].passages, seen[-1].passages_total) == (20, 20)
        assert retriever.info().embedded == 19
        assert retriever.search("river number 5", 1, mode="dense")[0].id == "d5#0"


@pytest.mark.parametrize("fault", ["NaN", "error", "our error", "panic", "shape"])
def test_an_encoder_that_fails_on_everything_is_an_error_after_few_tries(folder, fault):
    encoder = Picky(fault, everything=True)
    with dpr_lance.connect(folder, encoder=encoder) as retriever:
        with pytest.raises(EncoderError):
            retriever.add(passages(100, *range(100)))
        assert len(encoder.asked) == 2
        assert len(retriever) == 0


def test_what_is_no_array_is_an_encoder_error(monkeypatch):
    for answer in (None, "vectors", [[1.0], [1.0, 2.0]], object()):
        monkeypatch.setattr(HashEncoder, "encode_passages", lambda self, passages, answer=answer: answer)
        with pytest.raises(EncoderError, match="hash-64"):
            encoded_passages(HashEncoder(), [("", "a"), ("", "b")])


def test_an_interruption_within_an_encoder_is_not_taken_for_its_failure(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(HashEncoder, "encode_passages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encoded_passages(HashEncoder(), [("", "a")])


def test_a_question_without_a_vector_is_answered_by_bm25_and_the_others_are_not(folder, picky):
    with dpr_lance.connect(folder, encoder=picky) as retriever:
        retriever.add([*passages(30), {"id": "page", "text": f"an odd page, {BAD}"}])
        questions = ["river number 3", f"{BAD} page", "river number 4"]
        for mode in (None, "hybrid"):
            found = retriever.search(questions, 3, mode=mode)
            assert [hits.question for hits in found] == questions
            assert [hits.mode for hits in found] == ["hybrid", "bm25", "hybrid"]
            assert [hits.fallback is None for hits in found] == [True, False, True]
            assert "no vector of this question" in found[1].fallback
            assert found[1][0].document_id == "page"
            assert found[0].hits == retriever.search(questions[0], 3, mode=mode).hits
        assert retriever.search(questions[1]).mode == "bm25"
        with pytest.raises(InvalidInputError, match=rf"no vector of the question '{BAD} page'.*mode='bm25'"):
            retriever.search(questions, mode="dense")
        with pytest.raises(InvalidInputError, match="no vector of the question"):
            retriever.search(questions[1], mode="dense")
        assert [len(hits) for hits in retriever.search(questions, 3, mode="bm25")] == [3, 1, 3]


def test_evaluate_leaves_such_a_question_out_of_every_row_and_names_it(folder, tmp_path, picky):
    questions = [{"question": f"river number {n}", "labels": [f"d{n}"]} for n in range(5)]
    questions.insert(2, {"question": f"{BAD} page", "labels": ["d1"]})
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in questions))
    with dpr_lance.connect(folder, encoder=picky) as retriever:
        retriever.add(passages(10))
        for modes in (("bm25", "dense", "hybrid"), ("hybrid",)):
            found = dpr_lance.evaluate(retriever, path, modes=modes, runs=tmp_path / "runs")
            assert (found.questions, len(found.outcomes)) == (5, 5)
            assert [each.place for each in found.skipped] == [f"{path}:3"]
        assert dpr_lance.evaluate(retriever, path, modes=["bm25"]).questions == 6
        with pytest.raises(InvalidInputError, match=r"no question to evaluate with: questions\[0\]: "):
            dpr_lance.evaluate(retriever, questions[2:3], modes=["hybrid"])


def test_calibrate_leaves_such_a_question_out_and_names_it(folder, picky):
    with dpr_lance.connect(folder, encoder=picky) as retriever:
        retriever.add(passages(60))
        found = retriever.calibrate([*(f"river number {n}" for n in range(30)), f"{BAD} page"])
        assert found.questions == 30
        assert [each.place for each in found.skipped] == [f"'{BAD} page'"]
        assert retriever.info().calibration.skipped == ()
        labelled = [{"question": f"river number {n}", "labels": [f"d{n}"]} for n in range(55)]
        labelled[50]["question"] = f"{BAD} page"
        found = retriever.calibrate(labelled)
        assert (found.questions, found.labelled) == (54, 54)
        assert [each.place for each in found.skipped] == ["questions[50]"]
        with pytest.raises(InvalidInputError, match="no question is left to calibrate with"):
            retriever.calibrate([f"{BAD} page"])


def test_the_error_names_the_questions_and_can_be_pickled():
    encoder = Picky()
    with pytest.raises(UnencodableError) as caught:
        encoded_questions(encoder, ["river", BAD, "water", f"{BAD} too"])
    assert sorted(caught.value.reasons) == [1, 3]
    assert caught.value.reasons[1].startswith("it is blank")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.reasons) == (str(caught.value), caught.value.reasons)


def test_a_page_of_replacement_characters_under_the_packaged_encoder(folder, capsys, tmp_path):
    documents = tmp_path / "pages.jsonl"
    rows = [{"id": "page", "text": PAGE}, {"id": "rhine", "text": "The Rhine is a river."}]
    documents.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.run(["add", str(folder), str(documents)]) == 0
    said = capsys.readouterr()
    assert "no vector: passage page#0: it is blank to the encoder's tokenizer" in said.err
    assert cli.run(["embed", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passages_without_vector"] == 1
    with dpr_lance.connect(folder, encoder=DEFAULT_ENCODER) as retriever:
        assert retriever.info().embedded == 1
        assert [hits.mode for hits in retriever.search([PAGE, "a river"])] == ["bm25", "hybrid"]
