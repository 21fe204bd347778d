"""Rebuilding what is derived from the passages of damaged tables."""

import shutil
import warnings

import pyarrow as pa
import pytest

import dpr_lance
from dpr_lance import DamagedTableError, HashEncoder
from tests.health.tables import flip, one, opened, rows_of


def test_rebuilding_leaves_one_of_doubled_rows(doubled):
    with opened(doubled) as retriever:
        retriever.optimize(rebuild=True)
        assert retriever.check().ok
        assert len(retriever) == 11


# The small table


def test_without_its_small_table_a_copied_table_is_searched_and_rebuilt(table):
    shutil.rmtree(table / "passages_dpr_lance.lance")
    with opened(table) as retriever:
        with pytest.warns(UserWarning, match=r"'passages_dpr_lance' is missing, and with it what calibrate\(\)"):
            assert len(retriever.search("river")) == 10
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert any("is missing" in finding.what for finding in retriever.check().findings)
            retriever.optimize(rebuild=True)
        assert retriever.check().ok
        retriever.add([{"id": "more", "text": "more"}])
        assert retriever.info().calibration is None


def test_a_small_table_with_a_lost_file_is_named_and_rebuilt(table):
    path = one(table, "passages_dpr_lance.lance/data/*")
    for file in (table / "passages_dpr_lance.lance" / "data").iterdir():
        file.unlink()
    with opened(table) as retriever:
        with pytest.raises(
            DamagedTableError, match=rf"small table 'passages_dpr_lance': .*{path.parent}.*rebuild=True"
        ):
            retriever.search("river")
        retriever.optimize(rebuild=True)
        assert len(retriever.search("river")) == 10
        assert retriever.check().ok


def test_after_a_re_embedding_the_schema_tells_the_encoder_where_the_small_table_is_lost(table):
    with opened(table) as retriever:
        retriever.reembed(HashEncoder(8))
    shutil.rmtree(table / "passages_dpr_lance.lance")
    with dpr_lance.connect(table, encoder=HashEncoder(8), resident_bytes=0) as retriever:
        with pytest.warns(UserWarning, match="is missing"):
            hits = retriever.search("word4", 3, mode="dense")
        assert hits[0].id == "d4#0"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            retriever.optimize(rebuild=True)
        assert "vector_2" in rows_of(table).schema.names
        assert retriever.check().ok


def test_vectors_of_an_unknown_encoder_are_named_and_made_again(table):
    rows = rows_of(table)
    rows.add_columns(pa.schema([pa.field("vector_2", pa.list_(pa.float32(), 8))]))
    rows.drop_columns(["vector"])
    with opened(table) as retriever:
        with pytest.raises(DamagedTableError, match=r"vector_2.*reembed\(\)"):
            retriever.search("river", mode="dense")
        retriever.reembed(HashEncoder(16))
        assert retriever.search("word4", 3, mode="dense")[0].id == "d4#0"
        assert retriever.check().ok


# Rebuilding


def test_rebuilding_refuses_where_passages_are_damaged(table):
    flip(one(table, "passages.lance/data/*.lance"), 60)
    with opened(table) as retriever, pytest.raises(DamagedTableError, match=r"contains passages; .*backup"):
        retriever.optimize(rebuild=True)


def test_a_damaged_earlier_version_is_removed(table):
    with opened(table) as retriever:
        retriever.add([{"id": "more", "text": "more"}])
        max((table / "passages.lance" / "_versions").glob("*.manifest")).write_bytes(b"")
        assert "only earlier versions" in retriever.check().findings[0].remedy
        retriever.optimize(rebuild=True)
        assert retriever.check().ok
