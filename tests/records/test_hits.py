"""Hits in other forms: dictionaries, JSON, Arrow, data frames, and HTML for notebooks."""

import datetime
import json
import pickle
import sys
from decimal import Decimal
from html.parser import HTMLParser

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dpr_lance
from dpr_lance import HashEncoder, Hit, Hits, InvalidInputError, MissingExtraError
from tests.search.rerankers import Counting

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("small", pa.int16()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("ms", "UTC")),
        ("price", pa.decimal128(9, 2)),
        ("tags", pa.list_(pa.string())),
        ("place", pa.struct([("x", pa.float32())])),
        ("count", pa.int64()),
        ("score", pa.float32()),
    ]
)
AT = datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
ROWS = [
    {
        "id": "a",
        "text": "a river in the Alps",
        "small": 3,
        "flag": True,
        "day": datetime.date(2024, 1, 2),
        "at": AT,
        "price": Decimal("12.50"),
        "tags": ["x", "y"],
        "place": {"x": 0.5},
        "score": 0.25,
        "count": 7,
    },
    {"id": "b", "text": "a river in the plains"},
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with dpr_lance.connect(tmp_path_factory.mktemp("hits") / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(pa.Table.from_pylist(ROWS, schema=SCHEMA))
        yield retriever


@pytest.fixture(scope="module")
def hits(table):
    return table.search("river alps", 5)


def test_metadata_columns_have_the_stored_types(hits):
    found = hits.to_arrow()
    assert found.num_rows == 2
    kinds = {"metadata.score" if field.name == "score" else field.name: field.type for field in SCHEMA}
    for name in kinds.keys() - {"id", "text"}:
        assert found.schema.field(name).type == kinds[name], name
    assert found["score"].to_pylist() == [hit.score for hit in hits]
    assert found["metadata.score"].to_pylist() == [0.25, None]
    assert found["rerank_score"].to_pylist() == [None, None]
    assert found["start"].to_pylist() == [0, 0]


def test_scores_that_do_not_exist_are_null(table):
    found = table.search("river", 5, mode="bm25", rerank=Counting("Alps"), candidates=1).to_arrow()
    assert found["dense_score"].null_count == 2
    assert found["rerank_score"].null_count == 1
    assert found.schema.field("dense_score").type == pa.float64()


def test_no_hits_have_the_same_columns(table, hits):
    empty = table.search("river", where="small = 99")
    assert empty.to_arrow().schema == hits.to_arrow().schema
    assert len(empty.to_pandas()) == len(empty.to_polars()) == 0
    assert empty.to_dicts() == []


def test_pandas(hits):
    frame = hits.to_pandas()
    assert frame["small"].dtype == pd.Int16Dtype()
    assert frame["flag"].dtype == pd.BooleanDtype()
    assert frame["count"].dtype == pd.Int64Dtype()
    assert frame["rank"].dtype == "int64"
    assert frame["at"][0] == AT
    assert (frame["id"][0], frame["day"][0], frame["price"][0]) == ("a#0", datetime.date(2024, 1, 2), Decimal("12.50"))


def test_polars(hits):
    frame = hits.to_polars()
    assert frame.schema["small"] == pl.Int16
    assert frame.schema["day"] == pl.Date
    assert frame["flag"].to_list() == [True, None]


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_missing_package_is_named(hits, name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"to_{name}\(\) needs packages.*pip install 'dpr-lance\[{name}\]'"):
        getattr(hits, f"to_{name}")()
    assert hits.to_arrow().num_rows == 2


def test_dictionaries_and_json(hits):
    first, second = hits.to_dicts()
    assert first["metadata"]["day"] == datetime.date(2024, 1, 2)
    assert (first["rank"], first["id"], second["document_id"]) == (1, "a#0", "b")
    found = json.loads(hits.to_json())
    assert (found["question"], found["mode"], found["hybrid_weight"]) == ("river alps", "hybrid", hits.hybrid_weight)
    assert found["hits"][0]["metadata"]["day"] == "2024-01-02"
    assert [hit["score"] for hit in found["hits"]] == [hit.score for hit in hits]


def test_hits_that_were_pickled_keep_the_types(hits):
    assert pickle.loads(pickle.dumps(hits)).to_arrow().equals(hits.to_arrow())


def test_hits_made_by_hand(hits):
    made = Hits("q", (Hit(1, "a#0", "a", "", "text", 1.0, None, 1.0, metadata={"year": 2001}),), "bm25")
    assert made.to_arrow().schema.field("year").type == pa.int64()
    mixed = Hits("q", (*made.hits, Hit(2, "b#0", "b", "", "t", 1.0, None, 1.0, metadata={"year": "x"})), "bm25")
    with pytest.raises(InvalidInputError, match="the metadata field 'year' of these hits fits no column"):
        mixed.to_arrow()


class Outline(HTMLParser):
    """Collects tags, attributes and text; unclosed or crossed tags fail."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.marked, self.text = [], [], [], [], ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open[-1] == "mark":
            self.marked.append(data)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)> \"'&amp;"


def test_html_of_a_notebook(hits):
    page = Outline(hits._repr_html_())
    assert page.marked == ["river", "Alps", "river"]
    assert "hybrid: score = bm25 + " in page.text
    assert "small: 3" in page.text
    assert set(page.tags) <= {"div", "b", "span", "bdi", "mark", "table", "thead", "tbody", "tr", "th", "td"}
    assert {name for name, _ in page.attributes} == {"style", "dir"}


def test_html_shows_stored_text_as_text(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": EVIL, "title": EVIL, "text": f"river {EVIL}", "note": EVIL}])
        page = Outline(retriever.search(f"river {EVIL}")._repr_html_())
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") == 5


def test_html_without_hits_and_with_a_reason(table):
    page = Outline(table.search("river", where="small = 99")._repr_html_())
    assert "no passage found" in page.text
    assert "BM25 alone: no encoder" in Outline(Hits("q", (), "bm25", fallback="no encoder")._repr_html_()).text
