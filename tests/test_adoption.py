"""`adopt`: tables that plain LanceDB has made, in every form of ids, titles and texts, open with `connect`."""

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import EmbeddingFunctionConfig

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, InvalidInputError, TableError
from dpr_lance.lancedb import DprEmbeddings

ALPS = ("Alps", "The Alps are a mountain range in Europe.")
GZIP = ("", "Reads and writes files compressed with GNU zip.")
QUESTION = "mountain range in Europe"
VECTOR = pa.field("vector", pa.list_(pa.float32(), 64))


@pytest.fixture
def function(encoder):
    return DprEmbeddings.create(encoder=encoder)


def made(folder, function, fields, rows, source):
    config = EmbeddingFunctionConfig(source_column=source, vector_column="vector", function=function)
    schema = pa.schema([*fields, VECTOR])
    table = lancedb.connect(folder).create_table("notes", schema=schema, embedding_functions=[config])
    table.add(pa.Table.from_pylist(rows, schema=pa.schema(fields)))
    return table


def notes(folder, function, **names):
    """A table with keys, titles in the source, and metadata."""
    fields = [pa.field("key", pa.int64()), pa.field("body", pa.string()), pa.field("year", pa.int32())]
    rows = [{"key": 1, "body": ALPS[1], "year": 2001}, {"key": 2, "body": GZIP[1], "year": None}]
    return made(folder, function, fields, rows, "body")


def opened(folder):
    return lancedb.connect(folder).open_table("notes")


def rows_of(table, columns):
    return sorted(table.search().select(columns).limit(None).to_list(), key=str)


def test_an_adopted_table_is_searched_and_the_users_columns_stay(folder, function, encoder):
    before = rows_of(notes(folder, function), ["key", "body", "year", "vector"])
    with dpr_lance.adopt(folder, table="notes", id="key", encoder=encoder) as retriever:
        for mode in ("hybrid", "dense", "bm25"):
            hit = retriever.search(QUESTION, mode=mode)[0]
            assert (hit.id, hit.document_id, hit.title, hit.text) == ("1#0", "1", "", ALPS[1])
            assert hit.metadata == {"key": 1, "body": ALPS[1], "year": 2001}
        assert retriever.search(QUESTION, where="year = 2001")[0].id == "1#0"
        assert retriever.check().ok
        info = retriever.info()
        assert (info.passages, info.documents, info.embedded, info.incomplete) == (2, 2, 2, 0)
        assert rows_of(opened(folder), ["key", "body", "year", "vector"]) == before
    with dpr_lance.connect(folder, table="notes", encoder=encoder) as retriever:  # and with `connect` from then on
        assert retriever.search(QUESTION)[0].id == "1#0"


def test_plain_lancedb_goes_on_adding_and_asking(folder, function, encoder):
    notes(folder, function)
    with dpr_lance.adopt(folder, table="notes", id="key", encoder=encoder) as retriever:
        table = opened(folder)
        table.add([{"key": 3, "body": "The Jura is a mountain range.", "year": 1}])
        assert table.search(QUESTION, query_type="vector").limit(1).to_list()[0]["key"] == 1
        for mode in ("hybrid", "dense", "bm25"):
            assert retriever.search(QUESTION, mode=mode)[0].id == "1#0"
        assert len(retriever.search(QUESTION, mode="dense", rerank=Shortest())) == 3
        assert retriever.info().incomplete == 1
        retriever.optimize()
        assert (retriever.info().incomplete, retriever.info().embedded) == (0, 3)
        assert retriever.search("jura", mode="bm25")[0].id == "3#0"
        assert retriever.check().ok
        retriever.add([{"id": "2", "text": "Another text."}, {"id": "9", "text": "New."}], embed=False)
        assert [passage.text for passage in retriever.get(["2", "9"])] == ["Another text.", "New."]
        assert retriever.info().embedded == 2  # LanceDB embeds nothing that this library adds
        retriever.embed()
        retriever.reembed(HashEncoder(32))
        retriever.add([{"id": "10", "text": "After it was embedded again."}])
        assert retriever.info().embedded == retriever.info().passages == 5
    assert opened(folder).search(QUESTION, query_type="fts").limit(1).to_list()[0]["key"] == 1


class Shortest:
    def score(self, question, passages):
        return np.array([-len(passage.text) for passage in passages], dtype=np.float32)


def test_titles_come_from_the_first_line(folder, encoder):
    fields = [pa.field("id", pa.string()), pa.field("content", pa.string())]
    rows = [{"id": "alps", "content": "\n".join(ALPS)}, {"id": "gzip", "content": GZIP[1]}]
    made(folder, DprEmbeddings.create(encoder=encoder, title_line=True), fields, rows, "content")
    with dpr_lance.adopt(folder, table="notes", encoder=encoder) as retriever:
        found = {passage.id: (passage.title, passage.text) for passage in retriever.passages()}
        assert found == {"alps": ALPS, "gzip": GZIP}
        assert retriever.check().ok
        assert retriever.get("alps") == [passage for passage in retriever.passages() if passage.id == "alps"]
        hit = retriever.search(QUESTION)[0]
        assert [passage.id for passage in retriever.context(hit)] == ["alps"]


def test_titles_come_from_a_struct(folder, function, encoder):
    kind = pa.struct([("title", pa.string()), ("text", pa.string())])
    rows = [{"passage": {"title": title or None, "text": text}} for title, text in (ALPS, GZIP)]
    made(folder, function, [pa.field("passage", kind)], rows, "passage")
    with dpr_lance.adopt(folder, table="notes", encoder=encoder) as retriever:
        assert {(passage.title, passage.text) for passage in retriever.passages()} == {ALPS, GZIP}
        assert len({passage.id for passage in retriever.passages()}) == 2  # random ones
        assert retriever.check().ok
        opened(folder).add([{"passage": {"title": "Jura", "text": "Mountains."}}])
        retriever.embed()
        assert retriever.search("jura", mode="bm25")[0].title == "Jura"
        assert retriever.check().ok


def test_vectors_of_another_program_are_taken_with_the_name_of_their_encoder(folder, encoder):
    vectors = encoder.encode_passages([ALPS, GZIP]).tolist()
    rows = [
        {"id": name, "heading": title, "text": text, "vector": vector}
        for name, (title, text), vector in zip(("a", "b"), (ALPS, GZIP), vectors, strict=True)
    ]
    lancedb.connect(folder).create_table(
        "notes",
        pa.Table.from_pylist(rows).cast(
            pa.schema([*[(name, pa.string()) for name in ("id", "heading", "text")], VECTOR])
        ),
    )
    with pytest.raises(InvalidInputError, match="does not say what made its vectors"):
        dpr_lance.adopt(folder, table="notes")
    with dpr_lance.adopt(folder, table="notes", title="heading", encoder=encoder) as retriever:
        assert retriever.search(QUESTION)[0].title == "Alps"
        assert retriever.check().ok


def test_an_interrupted_adoption_is_continued(folder, function, encoder):
    table = notes(folder, function)
    table.add_columns({"id": "concat(CAST(`key` AS STRING), '#0')", "document_id": "CAST(`key` AS STRING)"})
    with dpr_lance.adopt(folder, table="notes", id="key", encoder=encoder) as retriever:
        assert retriever.search(QUESTION)[0].id == "1#0"
    with dpr_lance.adopt(folder, table="notes", id="key", encoder=encoder) as retriever:
        assert len(retriever) == 2
        assert retriever.check().ok


def test_a_table_of_an_earlier_version_lets_plain_lancedb_add_rows(retriever, documents, folder):
    retriever.add(documents)
    table = lancedb.connect(folder).open_table("passages")
    names = [field.name for field in table.schema if field.nullable and field.name not in ("vector", "year", "kind")]
    table.alter_columns(*({"path": name, "nullable": False} for name in names))
    with pytest.raises(RuntimeError, match="missing="):
        table.add([{"id": "jura", "text": "The Jura."}])
    dpr_lance.adopt(folder).close()
    table.checkout_latest()
    table.add([{"id": "jura", "text": "The Jura."}])
    retriever.embed()
    assert retriever.search("jura", mode="bm25")[0].id == "jura"


STRING, FLOATS = pa.string(), pa.list_(pa.float32(), 32)


@pytest.mark.parametrize(
    ("fields", "rows", "names", "problem"),
    [
        ([("text", STRING), ("vector", FLOATS)], [], {}, "must have the vectors of 'hash-64', 64 float32"),
        ([("text", STRING)], [], {}, "it is missing"),
        ([("body", STRING), VECTOR], [], {}, "text='text': .* has no such column; it has body, vector"),
        ([("text", pa.int32()), VECTOR], [], {}, "the column 'text' is int32, not text"),
        ([("text", STRING), VECTOR], [{"text": None}, {"text": " "}], {}, "2 rows have no text in 'text'"),
        ([("text", STRING), VECTOR], [], {"id": "key"}, "id='key': .* has no such column"),
        ([("text", STRING), VECTOR], [], {"title": "heading"}, "title='heading': .* has no such column"),
        ([("id", pa.int64()), ("text", STRING), VECTOR], [], {}, "'id' is int64, and ids are strings"),
        ([("id", STRING), ("text", STRING), VECTOR], [{"id": "a", "text": "x"}] * 2, {}, r"1 ids in 'id' .* \('a'\)"),
        ([("id", STRING), ("text", STRING), VECTOR], [{"text": "x"}], {}, "1 rows have no id in 'id'"),
        ([("position", STRING), ("text", STRING), VECTOR], [], {}, "a column 'position' of string"),
        (
            [("text", STRING), ("body", STRING), VECTOR],
            [{"text": "x", "body": "y"}],
            {"text": "body"},
            "a column 'text' that is not the one to use",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_adopted_is_refused_unchanged(folder, encoder, fields, rows, names, problem):
    schema = pa.schema([field if isinstance(field, pa.Field) else pa.field(*field) for field in fields])
    table = lancedb.connect(folder).create_table("notes", schema=schema)
    table.add(pa.Table.from_pylist(rows, schema=schema), on_bad_vectors="null")
    version = table.version
    with pytest.raises(InvalidInputError, match=problem):
        dpr_lance.adopt(folder, table="notes", encoder=encoder, **names)
    table.checkout_latest()
    assert table.version == version
    assert table.schema == schema


def test_a_table_that_is_not_there_is_named(folder, encoder):
    with pytest.raises(TableError, match=r"table 'notes' in .* does not exist: give the table's name"):
        dpr_lance.adopt(folder, table="notes", encoder=encoder)


def test_another_encoder_than_the_tables_is_refused(folder, function):
    notes(folder, function)
    with pytest.raises(EncoderMismatchError, match=r"fingerprint hash-encoder.*'hash-32' here has"):
        dpr_lance.adopt(folder, table="notes", id="key", encoder=HashEncoder(32))


def test_settings_are_checked(folder):
    for names in ({"id": 5}, {"title": 5}, {"text": 5}, {"encoder": 5}, {"language": "klingon"}, {"table": "a b"}):
        with pytest.raises(InvalidInputError):
            dpr_lance.adopt(folder, **names)


def test_rows_added_without_an_id_get_a_random_one(folder, function, encoder):
    made(folder, function, [pa.field("id", STRING), pa.field("text", STRING)], [{"id": "a", "text": "x"}], "text")
    with dpr_lance.adopt(folder, table="notes", encoder=encoder) as retriever:
        opened(folder).add([{"text": "one"}, {"text": "two"}])
        assert {hit.text for hit in retriever.search("one two")} == {"x", "one", "two"}
        retriever.optimize()
        assert len({passage.id for passage in retriever.passages()} - {None, ""}) == 3
        assert retriever.check().ok
