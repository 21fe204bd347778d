"""Damaged tables: every error is ours and names file and remedy, and `check` finds what is wrong."""

import shutil
import warnings
from datetime import timedelta

import pytest

from dpr_lance import DamagedTableError, TableError
from dpr_lance.cli.app import run
from tests.health import damages
from tests.health.tables import DOCUMENTS, flip, one, opened, rows_of
from tests.tables import store_in


def test_random_damages_are_named_or_found(tmp_path):
    damages.make_table(tmp_path / "table")
    counts, failures = damages.tally(tmp_path / "table", range(12))
    assert not failures
    assert sum(counts.values()) - counts["rebuilt"] == 12
    assert counts["rebuilt"]
    assert counts["named"]


# Errors


@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [("passages.lance/data/*.lance", "backup"), ("passages.lance/_indices/*/part_0_invert.lance", "rebuild=True")],
)
@pytest.mark.parametrize("damage", ["delete", "empty"])
def test_a_lost_file_is_named_at_once_also_with_a_filter(table, pattern, remedy, damage):
    path = one(table, pattern)
    if damage == "delete":
        path.unlink()
    else:
        path.write_bytes(b"")
    with opened(table) as retriever:
        for where in (None, "year > 3"):
            with pytest.raises(DamagedTableError, match=path.name) as raised:
                retriever.search("river", mode="bm25", where=where)
            assert remedy in str(raised.value)
            assert raised.value.__cause__ is not None
            assert "/rustc/" not in str(raised.value)
            assert ".cargo" not in str(raised.value)


def test_a_file_that_a_clean_up_has_freed_is_not_a_damage(table):
    with opened(table) as retriever:
        assert len(retriever.search("river", mode="bm25")) == 10
        other = rows_of(table)
        other.delete("id = 'd5#0'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
        assert len(retriever.search("river", 20, mode="bm25")) == 10
        assert retriever.check().ok


def test_a_table_without_any_version_is_not_taken_for_a_new_one(table):
    shutil.rmtree(table / "passages.lance" / "_versions")
    with pytest.raises(DamagedTableError, match="no version of the table"):
        opened(table)


def test_an_error_of_the_engine_that_is_no_damage_is_ours_and_says_why(table):
    with pytest.raises(TableError, match=r"LanceDB could not do this .*no_such") as raised:
        store_in(table).retry_on_conflict(lambda opened: opened.search().select(["no_such"]).to_arrow())
    assert not isinstance(raised.value, DamagedTableError)


def test_what_a_caller_raises_stays_as_it_is(table):
    def fail(_):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        store_in(table).retry_on_conflict(fail)


# What `check` finds


def test_a_whole_table_passes(table):
    with opened(table) as retriever:
        report = retriever.check()
    assert report.ok, report.findings
    assert (report.passages, report.documents, report.indexes, report.encoded) == (11, 11, ("content",), 11)
    assert report.files > 3
    assert report.files_without == 0


@pytest.mark.parametrize(
    "pattern", ["data/*.lance", "_indices/*/part_0_docs.lance", "_deletions/*", "_versions/*.manifest"]
)
def test_a_byte_that_is_another_is_found(table, pattern):
    retriever = opened(table)
    retriever.delete("d7")
    path = one(table / "passages.lance", pattern)
    flip(path, 40)
    with retriever:
        report = retriever.check()
    assert any(finding.file == str(path) and "checksum" in finding.what for finding in report.findings)


def test_a_lost_latest_version_is_found(table):
    with opened(table) as retriever:
        retriever.add([{"id": "newest", "text": "the newest"}])
    one(table / "passages.lance", "_versions/*.manifest").unlink()
    with opened(table) as retriever:
        assert retriever.get("newest") == []
        assert "the latest version is lost" in retriever.check().findings[0].what


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"text": "other"}, "text of passages has changed since it was stored"),
        ({"content": "other"}, "the column that BM25 indexes is not the title and the text"),
        ({"position": 7}, "do not match their document and position"),
        ({"vector": [3.0] + [0.0] * 15}, "do not have length 1"),
        ({"vector": [1.0] + [0.0] * 15}, "vectors differ from those that 'hash-16' makes"),
    ],
)
def test_rows_that_other_programs_change_are_found_by_id(table, values, found):
    rows_of(table).update(where="id = 'd5#0'", values=values)
    with opened(table) as retriever:
        (finding,) = [finding for finding in retriever.check().findings if found in finding.what]
    assert (finding.ids, finding.count) == (("d5#0",), 1)


def test_a_missing_text_index_and_one_that_misses_passages_are_found(table):
    rows_of(table).drop_index("content_idx")
    with opened(table) as retriever:
        assert "the BM25 index is missing" in [finding.what for finding in retriever.check().findings]
        assert "content" in retriever.optimize(rebuild=True).built
        assert retriever.check().ok


def test_the_command_tells_what_is_damaged_with_exit_code_1(table, capsys):
    assert run(["check", str(table)]) == 0
    assert "damages" in capsys.readouterr().out
    path = one(table, "passages.lance/_indices/*/part_0_docs.lance")
    flip(path)
    assert run(["check", str(table)]) == 1
    said = capsys.readouterr().err
    assert path.name in said
    assert "--rebuild" in said
    assert run(["optimize", str(table), "--rebuild"]) == 0
    assert run(["check", str(table), "--json"]) == 0
    assert '"findings": []' in capsys.readouterr().out.splitlines()[-1]


def test_doubled_rows_are_found_and_adding_again_leaves_one(doubled):
    with opened(doubled) as retriever:
        (finding,) = retriever.check().findings
        assert "more than once" in finding.what
        assert sorted(finding.ids) == ["d1#0", "d2#0"]
        retriever.add(DOCUMENTS[:5])
        assert retriever.check().ok
        assert len(retriever) == 12  # d3, which was deleted, is there again
        assert len(retriever.search("word1", mode="bm25")) == 1
