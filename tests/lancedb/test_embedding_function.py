"""LanceDB's embedding function `dpr`, on plain LanceDB tables."""

import asyncio
import json
import subprocess
import sys

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.embeddings import EmbeddingFunctionConfig, get_registry
from lancedb.index import FTS
from lancedb.pydantic import LanceModel, Vector

import dpr_lance
from dpr_lance import EncoderError, EncoderMismatchError, HashEncoder, InvalidInputError
from dpr_lance.lancedb import DprEmbeddings

QUESTION = "where are the alps?"
TEXTS = ["The Alps are a mountain range in Europe.", "Reads and writes files compressed with GNU zip.", "A river."]


@pytest.fixture
def database(tmp_path):
    return lancedb.connect(tmp_path / "plain")


def made(database, function, name="passages"):
    schema = pa.schema(
        [
            pa.field("text", pa.string()),
            pa.field("vector", pa.list_(pa.float32(), function.ndims())),
            pa.field("n", pa.int32()),
        ]
    )
    config = EmbeddingFunctionConfig(source_column="text", vector_column="vector", function=function)
    return database.create_table(name, schema=schema, embedding_functions=[config])


def vectors(table):
    return np.array(table.to_arrow()["vector"].to_pylist(), dtype=np.float32)


@pytest.fixture
def table(database, encoder):
    table = made(database, DprEmbeddings.create(encoder=encoder))
    table.add([{"text": text, "n": n} for n, text in enumerate(TEXTS)])
    return table


def test_it_is_registered_as_dpr():
    assert get_registry().get("dpr") is DprEmbeddings


def test_rows_get_the_passage_vectors_and_questions_the_question_vector(table, encoder):
    assert np.array_equal(vectors(table), encoder.encode_passages([("", text) for text in TEXTS]))
    found = table.search(QUESTION).distance_type("dot").limit(3).to_arrow()
    (question,) = encoder.encode_questions([QUESTION])
    assert found["n"].to_pylist() == np.argsort(-(vectors(table) @ question)).tolist()
    assert 1 - found["_distance"][0].as_py() == pytest.approx(float((vectors(table) @ question).max()), abs=1e-6)


def test_vectors_that_are_given_are_kept(table, encoder):
    given = np.full(encoder.card.dimension, 0.5, dtype=np.float32)
    table.add([{"text": "another", "n": 3, "vector": given}])
    assert np.array_equal(vectors(table)[3], given)


def test_hybrid_queries_take_a_question(table):
    table.create_index("text", config=FTS())
    found = table.search(QUESTION, query_type="hybrid").limit(3).to_arrow()
    assert found["text"][0].as_py() == TEXTS[0]


def test_the_asynchronous_table_takes_a_question(table, database):
    table.create_index("text", config=FTS())

    async def searched():
        opened = await (await lancedb.connect_async(database.uri)).open_table("passages")
        await opened.add([{"text": "The Jura", "n": 3}])
        found = [
            await (await opened.search(QUESTION, query_type=kind)).limit(1).to_list() for kind in ("vector", "hybrid")
        ]
        return [rows[0]["text"] for rows in found], await opened.count_rows("vector IS NOT NULL")

    assert asyncio.run(searched()) == ([TEXTS[0]] * 2, 4)


def test_titles_are_in_the_first_line_where_the_function_says_so(database, encoder):
    table = made(database, DprEmbeddings.create(encoder=encoder, title_line=True))
    table.add([{"text": "Alps\nThe first.\nThe second."}, {"text": "No title."}])
    assert np.array_equal(
        vectors(table), encoder.encode_passages([("Alps", "The first.\nThe second."), ("", "No title.")])
    )
    plain = made(database, DprEmbeddings.create(encoder=encoder), name="plain")
    plain.add([{"text": "Alps\nThe first."}])
    assert np.array_equal(vectors(plain), encoder.encode_passages([("", "Alps\nThe first.")]))


def test_a_struct_has_title_and_text(database, encoder):
    function = DprEmbeddings.create(encoder=encoder)

    class Titled(LanceModel):
        title: str | None
        text: str

    class Row(LanceModel):
        passage: Titled = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    table = database.create_table("passages", schema=Row)
    table.add([{"passage": {"title": "Alps", "text": TEXTS[0]}}, {"passage": {"title": None, "text": TEXTS[2]}}])
    assert np.array_equal(vectors(table), encoder.encode_passages([("Alps", TEXTS[0]), ("", TEXTS[2])]))
    table.create_index("passage.text", config=FTS())
    assert table.search(QUESTION, query_type="hybrid").limit(1).to_list()[0]["passage"]["title"] == "Alps"


def test_rows_without_text_have_no_vector(database, encoder):
    table = made(database, DprEmbeddings.create(encoder=encoder))
    table.add(pa.table({"text": [None, " \n", "river"]}), on_bad_vectors="null")
    assert table.to_arrow()["vector"].is_null().to_pylist() == [True, True, False]
    with pytest.raises(RuntimeError, match="on_bad_vectors='null'"):  # LanceDB's default is to refuse them
        table.add([{"text": " "}])


def test_the_table_stores_what_makes_the_function_again(database):
    table = made(database, get_registry().get("dpr").create(threads=1))
    (stored,) = json.loads(table.schema.metadata[b"embedding_functions"])
    assert stored["model"] == {
        "encoder": "all-MiniLM-L6-v2",
        "fingerprint": dpr_lance.load_encoder("all-MiniLM-L6-v2").card.fingerprint,
        "variable": None,
        "threads": 1,
        "title_line": False,
    }


def test_another_process_needs_one_import(tmp_path):
    """For a table of plain LanceDB, and for one of `connect`."""
    place = str(tmp_path / "tables")
    made(lancedb.connect(place), DprEmbeddings.create(), name="plain").add([{"text": TEXTS[0]}])
    with dpr_lance.connect(place) as retriever:
        retriever.add([{"text": text} for text in TEXTS])
    code = f"""
import lancedb, dpr_lance.lancedb
database = lancedb.connect({place!r})
table = database.open_table("plain")
table.add([{{"text": {TEXTS[2]!r}}}])
print(*[row["text"] for row in table.search({QUESTION!r}).limit(2).to_list()], sep="\\n")
for kind in ("vector", "hybrid"):
    found = database.open_table("passages").search("high peaks", query_type=kind).limit(1).to_list()
    print(found[0]["text"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [TEXTS[0], TEXTS[2], TEXTS[0], TEXTS[0]]


def test_another_encoder_of_the_same_name_is_refused(database, encoder, table):
    class Changed(HashEncoder):
        @property
        def card(self):
            return dpr_lance.EncoderCard(name="hash-64", dimension=64, fingerprint="another")

    get_registry().set_var("hash-64", Changed(64))
    reopened = database.open_table("passages")
    for call in (lambda: reopened.search(QUESTION), lambda: reopened.search(QUESTION, query_type="hybrid").to_list()):
        with pytest.raises(EncoderMismatchError, match=r"fingerprint hash-encoder.*'hash-64' here has another"):
            call()
    with pytest.raises(
        RuntimeError, match=r"EncoderMismatchError.*another"
    ):  # Arrow carries it out of LanceDB's stream
        reopened.add([{"text": "more"}])
    assert reopened.count_rows() == 3
    get_registry().set_var("hash-64", encoder)
    reopened.add([{"text": "more"}])


def test_an_encoder_object_is_given_again_by_its_name(database):
    table = made(database, DprEmbeddings.create(encoder=HashEncoder(48)))
    (stored,) = json.loads(table.schema.metadata[b"embedding_functions"])
    assert (stored["model"]["encoder"], stored["model"]["variable"]) == (None, "hash-48")
    elsewhere = DprEmbeddings.create(**stored["model"] | {"variable": "hash-40"})
    with pytest.raises(
        EncoderError, match=r"encoder object 'hash-40', .* get_registry\(\).set_var\('hash-40', encoder\)"
    ):
        elsewhere.compute_query_embeddings(QUESTION)
    get_registry().set_var("hash-40", HashEncoder(48))
    assert elsewhere.ndims() == 48


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model": "x"}, "has no setting 'model'"),
        ({"encoder": 5}, "encoder=5"),
        ({"threads": 0}, "threads=0"),
        ({"title_line": "yes"}, "title_line='yes'"),
    ],
)
def test_settings_are_checked(settings, problem):
    with pytest.raises(InvalidInputError, match=problem):
        DprEmbeddings.create(**settings)


def test_an_encoder_that_is_not_there_is_named():
    with pytest.raises(EncoderError, match="missing-bundle"):
        DprEmbeddings.create(encoder="./missing-bundle").ndims()


@pytest.mark.parametrize("question", ["", " ", 5])
def test_a_question_that_cannot_be_used_raises_at_once(table, question):
    with pytest.raises((InvalidInputError, TypeError)):
        table.search(question, query_type="vector").to_list()


def test_a_source_of_another_type_is_refused(encoder):
    with pytest.raises(InvalidInputError, match=r"texts\[1\]=5: the source column has text"):
        DprEmbeddings.create(encoder=encoder).compute_source_embeddings(["a", 5])


def test_a_source_is_a_list_an_array_or_one_text(encoder):
    function = DprEmbeddings.create(encoder=encoder)
    (expected,) = encoder.encode_passages([("", "river")])
    for texts in ("river", ["river"], pa.array(["river"]), pa.chunked_array([["river"]]), np.array(["river"])):
        (vector,) = function.compute_source_embeddings(texts)
        assert np.array_equal(vector, expected)
