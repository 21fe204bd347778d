"""Filters on metadata, with and without an index, in every mode: k hits where k passages match."""

from datetime import date

import numpy as np
import pytest
from lancedb.expr import col

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError
from dpr_lance.cli import app as cli
from dpr_lance.table.index_policy import IndexPolicy
from tests.tables import WORDS, brute_force_bm25, opened, random_documents

COUNT = 600
COLUMNS = ["year", "kind", "rare", "day", "tags"]


def documents():
    """Random texts with metadata of every kind; some of it null."""
    return [
        document
        | {
            "year": 1900 + number % 120,
            "kind": None if number % 7 == 0 else f"it's {number % 3}",
            "rare": number % 97 == 0,
            "day": date(2020, 1 + number % 12, 1),
            "tags": [f"t{number % 5}", f"u{number % 11}"],
            "place": {"country": "ch"},
        }
        for number, document in enumerate(random_documents(21, COUNT))
    ]


WHERES = [
    ("rare", lambda document: document["rare"]),
    ("year = 1950", lambda document: document["year"] == 1950),
    (col("year") > 2015, lambda document: document["year"] > 2015),
    ("kind = 'it''s 2' AND year < 1910", lambda d: d["kind"] == "it's 2" and d["year"] < 1910),
    (col("kind") == "it's 1", lambda document: document["kind"] == "it's 1"),
    ("kind IS NULL", lambda document: document["kind"] is None),
    ("day = date '2020-03-01'", lambda document: document["day"] == date(2020, 3, 1)),
    ("array_has_any(tags, ['u7'])", lambda document: "u7" in document["tags"]),
]


@pytest.fixture(scope="module", params=["in memory", "exact", "vector index", "all indexes", "few probes of the index"])
def filled(request, tmp_path_factory):
    policy, shares = IndexPolicy(), (1.0,)
    if "index" in request.param:
        shares = (0.05,) if request.param.startswith("few") else (1.0,)
        policy = IndexPolicy(vector_index_rows=500, rows_per_partition=32, probed_shares=shares)
    resident = 1 << 20 if request.param == "in memory" else 0
    place = tmp_path_factory.mktemp("t") / "t"
    with opened(place, HashEncoder(dimension=32), policy=policy, resident_bytes=resident) as retriever:
        retriever.add(documents(), splitter=None)
        columns = COLUMNS if request.param == "all indexes" else []
        retriever.optimize(filter_columns=columns)
        assert {index.column for index in retriever.info().indexes} >= {*columns, "content"}
        yield retriever, shares == (1.0,)


@pytest.mark.parametrize(("where", "matches"), WHERES)
def test_filters_keep_the_best_of_what_matches(filled, where, matches):
    retriever, every_partition = filled
    matching = [document for document in documents() if matches(document)]
    question = "river bridge castle"
    encoder = HashEncoder(dimension=32)
    dense = (
        encoder.encode_passages([(d["title"], d["text"]) for d in matching]) @ encoder.encode_questions([question])[0]
    )
    contents = [f"{document['title']}\n{document['text']}" for document in documents()]
    bm25 = brute_force_bm25(question, contents)[[int(document["id"][1:]) for document in matching]]
    weight = encoder.card.hybrid_weight
    for mode, scores in (("dense", dense), ("bm25", bm25[bm25 > 0]), ("hybrid", bm25 + weight * dense)):
        for k in (1, 5, 50):
            hits = retriever.search(question, k, mode=mode, where=where)
            assert len(hits) == min(k, len(scores))
            assert {hit.document_id for hit in hits} <= {document["id"] for document in matching}
            best = np.sort(scores)[::-1][: len(hits)]
            if mode == "bm25" or every_partition or k >= len(scores):
                assert [hit.score for hit in hits] == pytest.approx(list(best), abs=1e-3 * (1 + weight))


def test_a_batch_probes_no_more_for_a_question_than_it_would_alone(tmp_path):
    """A question that finds too few passages in the partitions probed for it leaves the others as they are."""
    policy = IndexPolicy(vector_index_rows=500, rows_per_partition=32, probed_shares=(0.05,))
    with opened(tmp_path / "t", HashEncoder(dimension=32), policy=policy, resident_bytes=0) as retriever:
        retriever.add(documents(), splitter=None)
        retriever.optimize()
        questions = [f"{first} {second}" for first in WORDS for second in WORDS[:4]]
        probes = set()
        for k in (12, 18, 24):
            alone = [
                retriever.search(question, k, mode="dense", where="year > 0", explain=True) for question in questions
            ]
            probes |= {hits.explanation.effort.probes for hits in alone}
            together = retriever.search(questions, k, mode="dense", where="year > 0")
            found = [[(hit.id, hit.score) for hit in hits] for hits in together]
            assert found == [[(hit.id, hit.score) for hit in hits] for hits in alone]
        assert len(probes) > 1


def test_an_index_is_built_once_and_kept(tmp_path, capsys):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add(documents()[:50], splitter=None)
        assert retriever.optimize(filter_columns=["year", "tags", "year"]).built == ("year", "tags")
        assert retriever.optimize(filter_columns="year").built == ()
        retriever.add(documents()[50:60], splitter=None)
        rows = {index.column: index.indexed_rows for index in retriever.optimize().indexes}
        assert rows == {"content": 60, "year": 60, "tags": 60}
    assert cli.run(["optimize", str(tmp_path / "t"), "--filter-column", "kind", "--filter-column", "day"]) == 0
    assert "on kind: 60 rows" in capsys.readouterr().out


@pytest.mark.parametrize("column", ["two words", "Größe", "a-b", "select"])
def test_a_column_with_any_name_that_is_stored_can_be_filtered_by(tmp_path, column):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add([document | {column: document["year"]} for document in documents()[:20]], splitter=None)
        for _ in range(2):
            hits = retriever.search("river", where=f"`{column}` = 1907")
            assert [hit.metadata[column] for hit in hits] == [1907]
            assert len(retriever.search("river", where=col(column) == 1907)) == 1
            built = retriever.optimize(filter_columns=[column]).built
            assert {index.column for index in retriever.info().indexes} == {"content", column}
        assert built == ()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("colour", "'colour' is not a metadata column .* it has year, rare"),
        ("text", "not a metadata column"),
        ("place", "cannot"),
    ],
)
def test_a_column_that_cannot_have_an_index(tmp_path, column, message):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(dimension=32)) as retriever:
        retriever.add(documents()[:5], splitter=None)
        with pytest.raises(InvalidInputError, match=message):
            retriever.optimize(filter_columns=["year", column])
        assert {index.column for index in retriever.info().indexes} == {"content"}


@pytest.mark.parametrize("columns", [(), ("flag",)], ids=["no index", "index"])
def test_a_null_is_neither_true_nor_false_with_and_without_an_index(tmp_path, columns):
    flags = {"yes": True, "no": False, "open": None}
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(8)) as retriever:
        retriever.add([{"id": name, "text": "a river", "flag": flag} for name, flag in flags.items()])
        retriever.optimize(filter_columns=columns)
        found = {
            where: {hit.document_id for hit in retriever.search("river", where=where)}
            for where in (
                "flag IS TRUE",
                "NOT (flag IS TRUE)",
                "flag IS FALSE",
                "NOT (flag IS FALSE)",
                "flag IS NOT TRUE",
            )
        }
    assert list(found.values()) == [{"yes"}, {"no", "open"}, {"no"}, {"yes", "open"}, {"no", "open"}]
