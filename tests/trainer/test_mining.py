"""Hard negatives from a table: the filters in their order, rankings, and where they are kept."""

import json

import lancedb
import numpy as np
import pytest
from dpr_lance.trainer.config import Mining
from dpr_lance.trainer.examples import Example, Examples, KnownPassage
from dpr_lance.trainer.mining import (
    Candidate,
    Ranking,
    distant_positives,
    mine,
    rank_all,
    rank_through,
    with_negatives,
)
from dpr_lance.trainer.negatives import SCHEMA, NegativesTable
from dpr_lance.trainer.table_questions import mine_table

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from tests.encoders.picky import BAD, Picky


def passage(name, text=None):
    return KnownPassage(name, "", text or f"the text of {name}")


def ranking(*passages, source="bm25", scores=None, positive_score=None):
    scores = scores or range(len(passages), 0, -1)
    found = [
        Candidate(one, rank, float(score))
        for rank, (one, score) in enumerate(zip(passages, scores, strict=True), start=1)
    ]
    return Ranking(source, found, positive_score)


GOLD = KnownPassage("d#1", "", "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu")
ROW = Example("f:1", "which river?", ("d#1",), answers=("Rhine",))


def test_every_filter_drops_in_its_order_and_counts():
    found = ranking(
        GOLD,
        passage("copy", GOLD.text.upper()),
        passage("d#2", "epsilon zeta eta theta iota kappa lambda mu and what comes after"),
        passage("d#3", "epsilon zeta eta theta iota kappa lambda mu, two passages on"),
        passage("says", "it is the Rhine, they say"),
        passage("early"),
        passage("near"),
        passage("far"),
        source="dense",
        scores=[9, 8, 7, 6, 5, 4.9, 4.8, 1],
        positive_score=5.0,
    )
    settings = Mining(first_rank=7, margin=0.05)
    mined = mine([ROW], {"d#1": GOLD}, [found], settings, round_number=2)
    assert [(one.passage.id, one.rank, one.source, one.round) for one in mined.negatives] == [("far", 8, "dense", 2)]
    assert mined.negatives[0].positive_score == 5.0
    # near: 4.8 is above 5 less 5 per cent; d#3 overlaps with nothing, but ranks too early.
    assert mined.dropped == {"positive": 1, "near-duplicate": 2, "answer": 1, "rank": 2, "margin": 1, "teacher": 0}
    assert mined.answered == (("which river?", "says"),)
    assert mined.without == 0


def test_dense_hits_of_a_question_whose_positive_was_not_found_are_no_negatives_but_bm25_ones_are():
    found = [ranking(passage("a"), source=source) for source in ("dense", "bm25")]
    mined = [mine([ROW], {"d#1": GOLD}, [one], Mining()) for one in found]
    assert [len(one.negatives) for one in mined] == [0, 1]
    assert [one.without for one in mined] == [1, 0]
    both = mined[0] + mined[1]
    assert (both.without, both.dropped["margin"]) == (0, 1)


def test_a_teacher_has_the_last_word_and_its_scores_are_kept():
    def teacher(pairs):
        return [{"the text of good": 9.0, "the text of bad": 1.0}.get(text, 9.2) for _, (_, text) in pairs]

    mined = mine([ROW], {"d#1": GOLD}, [ranking(passage("good"), passage("bad"))], Mining(), teacher=teacher)
    assert [(one.passage.id, one.teacher_score) for one in mined.negatives] == [("bad", 1.0)]
    assert mined.dropped["teacher"] == 1


@pytest.fixture
def table(tmp_path):
    rivers = ["rhine flows north", "danube flows east", "rhone flows south", "the rhine and the danube", "a mountain"]
    with dpr_lance.connect(tmp_path / "t.lance", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add([{"id": f"r{n}", "text": text} for n, text in enumerate(rivers)], splitter=None)
        yield retriever


def test_the_whole_table_is_ranked_anew_as_exact_search_would(table, monkeypatch):
    from dpr_lance.trainer import mining

    monkeypatch.setattr(mining, "PASSAGES_AT_ONCE", 2)
    encoder = HashEncoder(dimension=32)
    rows = [Example("f:1", "rhine flows", ("r0#0",)), Example("f:2", "danube east", ("r1#0",))]
    passages = {one.id: KnownPassage(one.id, one.title, one.text) for one in table.passages()}
    exact = rank_all(
        table,
        rows,
        passages,
        encode_questions=encoder.encode_questions,
        encode_passages=encoder.encode_passages,
        depth=3,
    )
    stored = list(rank_through(table, rows, "dense", 3))
    for ours, theirs in zip(exact, stored, strict=True):
        assert np.allclose([one.score for one in ours.candidates], [one.score for one in theirs.candidates], atol=1e-6)
        assert ours.candidates[0].passage == theirs.candidates[0].passage
        assert ours.positive_score == pytest.approx(theirs.positive_score, abs=1e-6)


def test_questions_with_answers_alone_get_the_best_passage_that_holds_one(table):
    rows = (Example("f:1", "where does it flow?", answers=("danube",)), Example("f:2", "what?", answers=("Nile",)))
    found = distant_positives(table, Examples("x", rows, {}))
    assert [row.positives for row in found.rows] in ([("r1#0",)], [("r3#0",)])
    assert found.oddities == {"positive found by its answer": 1, "no passage with an answer: left out": 1}


def test_negatives_are_kept_in_a_plain_table_by_run_and_round(table, tmp_path):
    uri = str(tmp_path / "t.lance")
    mined = mine([ROW], {"d#1": GOLD}, [ranking(passage("a"), passage("b"))], Mining())
    kept = NegativesTable(uri, "passages")
    assert kept.get("it's mine", 0) == []
    kept.put("it's mine", 0, mined.negatives)
    kept.put("it's mine", 1, mined.negatives[:1])
    kept.put("it's mine", 1, mined.negatives[1:])
    assert kept.get("it's mine", 0) == list(mined.negatives)
    assert [one.passage.id for one in kept.get("it's mine", 1)] == ["b"]
    assert kept.get("another", 0) == []
    assert lancedb.connect(uri).open_table("passages_negatives").schema == SCHEMA
    assert len(table) == 5


def test_negatives_are_stored_with_the_options_of_their_table(table, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "rhine flows where", "positives": ["r0"]}) + "\n")
    uri = tmp_path / "t.lance"
    # An option that shows on disk: versions are numbered upwards in place of downwards.
    mine_table(str(uri), str(questions), storage_options={"new_table_enable_v2_manifest_paths": "false"})
    assert (uri / "passages_negatives.lance" / "_versions" / "1.manifest").exists()


def test_mined_questions_are_written_for_training(table, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"question": "rhine flows where", "positives": ["r0"]}) + "\n")
    out = tmp_path / "mined.jsonl"
    report = mine_table(str(tmp_path / "t.lance"), str(questions), out=out)
    assert (report.questions, report.without) == (1, 0)
    assert report.negatives == 3  # the mountain shares no word with the question
    record = json.loads(out.read_text())
    assert record["positives"] == ["r0#0"]
    assert set(record["hard_negatives"]) <= {"r1#0", "r2#0", "r3#0", "r4#0"}
    with pytest.raises(InvalidInputError, match="has no table 'other'"):
        mine_table(str(tmp_path / "t.lance"), str(questions), table="other")


def test_mined_negatives_follow_a_questions_own_or_go_ahead():
    own = Example("f:1", "q", ("d#1",), ("own",))
    examples = Examples("x", (own,), {"d#1": GOLD, "own": passage("own")})
    mined = mine([own], {"d#1": GOLD}, [ranking(passage("a"), passage("own"))], Mining())
    assert with_negatives(examples, mined.negatives).rows[0].hard_negatives == ("own", "a")
    assert with_negatives(examples, mined.negatives, ahead=True).rows[0].hard_negatives == ("a", "own")


def test_mining_by_vectors_passes_over_a_question_without_one_and_names_it(tmp_path):
    rows = [Example(f"q:{at}", text) for at, text in enumerate(("river 1", f"{BAD} 2", "river 3"))]
    with dpr_lance.connect(tmp_path / "table", encoder=Picky("NaN")) as retriever:
        retriever.add([{"id": f"d{at}", "text": f"river {at}"} for at in range(5)])
        named = []
        found = rank_through(retriever, rows, "dense", 3, unencodable=lambda row, why: named.append((row.place, why)))
        assert [len(ranking.candidates) for ranking in found] == [3, 0, 3]
        assert [place for place, _ in named] == ["q:1"]
        with pytest.raises(InvalidInputError, match="no vector of the question"):
            list(rank_through(retriever, rows, "dense", 3))
