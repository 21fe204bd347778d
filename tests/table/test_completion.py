"""Rows that plain LanceDB adds to a table of `connect`: searchable at once, completed by `embed` and `optimize`."""

import lancedb
import pyarrow as pa
import pytest

import dpr_lance
from dpr_lance import HashEncoder

QUESTION = "mountain range jura"


@pytest.fixture
def plain(retriever, documents, folder):
    retriever.add(documents)
    return lancedb.connect(folder).open_table("passages")


def vector_of(title, text):
    return HashEncoder(64).encode_passages([(title, text)])[0]


def every_read(retriever):
    """Everything that reads rows; returns the ids of the hits by mode."""
    assert {passage.id for passage in retriever.passages()} == {hit.id for hit in retriever.search(QUESTION, 50)}
    assert len(list(retriever.documents())) > 4
    for hit in retriever.search(QUESTION, 50, explain=True, group_by="document_id", diversity=0.5, rerank=Shortest()):
        assert isinstance(hit.title, str)
        assert isinstance(hit.snippet(), str)
        assert retriever.get(hit.id)[0].id == hit.id
        retriever.context(hit)
    assert retriever.search(QUESTION, 50).context(200).text
    return {mode: [hit.id for hit in retriever.search(QUESTION, 50, mode=mode)] for mode in ("hybrid", "dense", "bm25")}


class Shortest:
    def score(self, question, passages):
        return [-len(passage.title + passage.text) for passage in passages]


ROWS = {
    "id and text": {"id": "jura", "text": "The Jura is a mountain range."},
    "with a title": {"id": "jura", "title": "Jura", "text": "The Jura is a mountain range."},
    "with a place": {"id": "jura#3", "text": "The Jura is a mountain range."},
    "with metadata": {"id": "jura", "text": "The Jura is a mountain range.", "year": 2020},
    "in full, without a vector": {
        "id": "jura#0",
        "document_id": "jura",
        "position": 0,
        "title": "",
        "text": "The Jura is a mountain range.",
        "content": "The Jura is a mountain range.",
        "start": 0,
        "end": 29,
        "content_hash": None,
        "document_hash": None,
    },
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("complete", [lambda retriever: retriever.embed(), lambda retriever: retriever.optimize()])
def test_a_row_is_stored_found_and_completed(plain, retriever, row, complete):
    plain.add([row])
    info = retriever.info()
    assert (info.passages, info.embedded, info.incomplete) == (5, 4, 1)
    (finding,) = [found for found in retriever.check().findings if "lack a value" in found.what]
    assert finding.ids == (row["id"],)
    assert "embed() or optimize() completes" in str(finding)
    assert len(retriever.search(QUESTION, 50)) >= 4
    (stored,) = retriever.get(row["id"])
    assert (stored.document_id, stored.text, stored.title) == ("jura", row["text"], row.get("title") or "")

    complete(retriever)
    retriever.embed()
    assert retriever.info().incomplete == 0
    assert retriever.check().ok
    found = every_read(retriever)
    assert all(ids[0] == row["id"] for ids in found.values())
    (hit, *_) = retriever.search(QUESTION)
    assert (hit.document_id, hit.title, hit.end, hit.metadata["year"]) == (
        "jura",
        row.get("title") or "",
        29,
        row.get("year"),
    )
    (stored,) = retriever.get("jura")
    assert stored.position == (3 if row["id"] == "jura#3" else 0)
    expected = vector_of(row.get("title") or "", row["text"])
    assert hit.dense_score == pytest.approx(float(expected @ HashEncoder(64).encode_questions([QUESTION])[0]), abs=1e-6)


def test_a_vector_that_is_given_is_searched_at_once_and_kept(plain, retriever):
    given = vector_of("", QUESTION)
    plain.add([{"id": "jura", "text": "Something else.", "vector": given}])
    assert every_read(retriever)["dense"][0] == "jura"
    retriever.embed()
    assert every_read(retriever)["dense"][0] == "jura"
    assert plain.checkout_latest() is None
    assert plain.search().where("id = 'jura'").to_list()[0]["vector"] == given.tolist()


def test_rows_of_one_id_are_all_kept(plain, retriever):
    plain.add([{"id": "jura", "text": "One."}, {"id": "jura", "text": "Two."}, {"id": "alps#0", "text": "Three."}])
    every = retriever.embed()
    assert every.passages_embedded == 3
    plain.checkout_latest()
    stored = plain.search().select(["id", "text", "content"]).where("text IN ('One.', 'Two.', 'Three.')").to_list()
    assert sorted((row["id"], row["content"]) for row in stored) == [
        ("alps#0", "Three."),
        ("jura", "One."),
        ("jura", "Two."),
    ]
    (finding,) = retriever.check().findings
    assert finding.what == "ids are stored more than once"


def test_a_completed_document_is_replaced_and_deleted_as_others(plain, retriever):
    plain.add([{"id": "jura", "text": "One."}, {"id": "rhine", "text": "Two."}])
    retriever.embed()
    report = retriever.add([{"id": "jura", "text": "Another."}])
    assert (report.documents_replaced, [passage.id for passage in retriever.get("jura")]) == (1, ["jura#0"])
    assert retriever.delete("rhine") == 2


def test_many_rows_are_completed_in_several_commits(plain, retriever):
    plain.add(
        pa.table(
            {"id": [f"n{n}" for n in range(2_100)], "text": [f"number {n}" for n in range(2_100)]},
            schema=pa.schema([plain.schema.field("id"), plain.schema.field("text")]),
        )
    )
    retriever.optimize()
    info = retriever.info()
    assert (info.documents, info.incomplete) == (2_104, 0)
    assert retriever.search("2099", mode="bm25")[0].document_id == "n2099"


def test_a_row_without_id_or_text_is_refused_by_lancedb(plain, retriever):
    for row in ({"text": "No id."}, {"id": "no text"}):
        with pytest.raises(RuntimeError, match=r"missing=\[(id|text)\]"):
            plain.add([row])
    assert len(retriever) == 4


def test_reembed_completes_rows_too(plain, retriever):
    plain.add([{"id": "jura", "text": "The Jura is a mountain range."}])
    retriever.reembed(HashEncoder(32))
    assert retriever.info().incomplete == 0
    assert retriever.info().embedded == 5


def test_a_table_whose_columns_take_no_null_works_as_before(plain, retriever, folder):
    """As those of earlier versions are."""
    names = [field.name for field in plain.schema if field.nullable and field.name not in ("vector", "year", "kind")]
    plain.alter_columns(*({"path": name, "nullable": False} for name in names))
    with dpr_lance.connect(folder, encoder=HashEncoder(64)) as other:
        other.add([{"id": "jura", "text": "The Jura is a mountain range."}])
        other.optimize()
        assert other.info().incomplete == 0
        assert other.check().ok
        assert other.search(QUESTION)[0].id == "jura#0"


def test_an_export_completes_rows_first(plain, retriever, tmp_path):
    plain.add([{"id": "jura", "text": "The Jura is a mountain range."}])
    assert retriever.export(tmp_path / "all.parquet") == 5
    with dpr_lance.connect(tmp_path / "copy", encoder=HashEncoder(64)) as other:
        other.add(tmp_path / "all.parquet")
        assert {hit.text for hit in other.search(QUESTION, 50)} == {hit.text for hit in retriever.search(QUESTION, 50)}
        assert other.get("jura")[0].title == ""


def test_what_bm25_indexes_is_in_the_language_of_the_table(folder, encoder):
    with dpr_lance.connect(folder, encoder=encoder, language="multilingual") as retriever:
        retriever.add([{"id": "a", "text": "프랑스의 수도"}])
        lancedb.connect(folder).open_table("passages").add([{"id": "b", "text": "도쿄는 일본의 수도이다"}])
        retriever.embed()
        assert {hit.id for hit in retriever.search("수도", mode="bm25")} == {"a#0", "b"}
        assert retriever.check().ok
