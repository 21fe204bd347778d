"""Where a table lies: all spellings of one folder are one table, under the same locks."""

import os
import sys

import pytest

import dpr_lance
from dpr_lance import HashEncoder, InvalidInputError, LockedError
from dpr_lance.table.address import checked_address
from dpr_lance.table.store import Store


@pytest.mark.parametrize(
    "spelling", ["file://{}", "file://localhost{}", "FILE://{}", "file:{}", "file-object-store://{}"]
)
def test_a_file_address_is_a_local_folder(tmp_path, spelling):
    folder = tmp_path / "a b+é%"
    escaped = str(folder).replace("%", "%25").replace(" ", "%20").replace("é", "%C3%A9")
    assert checked_address(spelling.format(escaped), "passages") == (str(folder), folder)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("file://data/wiki", "'data' is read as a host; a local folder has three slashes"),
        ("file://./wiki", "three slashes"),
        ("file://server/share", "'server'"),
        ("file:///data/wiki?x=1", "%3F"),
        ("file:///data/a#b", "%23"),
        ("file:///data/a#", "%23"),
        ("file:///data/%00", "NUL"),
    ],
)
def test_a_file_address_of_no_folder_here_is_refused(uri, told):
    with pytest.raises(InvalidInputError, match=told):
        dpr_lance.connect(uri)


def test_a_file_address_is_checked_as_a_path_is(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="holds other things"):
        dpr_lance.connect(tmp_path.as_uri())
    with pytest.raises(InvalidInputError, match="that is a file"):
        dpr_lance.connect((tmp_path / "notes.txt").as_uri())


def test_all_spellings_of_a_folder_share_its_locks(tmp_path, monkeypatch):
    place = tmp_path / "real" / "t"
    with dpr_lance.connect(place, encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "1", "text": "a river"}])
        first = Store(place, "passages")
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        (tmp_path / "direct").symlink_to(place, target_is_directory=True)
        monkeypatch.chdir(tmp_path / "link")
        spellings = [
            place.as_uri(),
            f"{place}{os.sep}",
            f"{place}/../t",
            tmp_path / "link" / "t",
            tmp_path / "direct",
            "t",
            "./t/",
            "../real/t",
        ]
        opened = [Store(spelling, "passages") for spelling in spellings]
        monkeypatch.chdir(tmp_path)
        for spelling, other in zip(spellings, opened, strict=True):
            with first.lock(timeout=1, purpose="write"), pytest.raises(LockedError):
                other.lock(timeout=0, purpose="write").__enter__()
            assert other.count() == 1, spelling
            other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="drive letters")
def test_what_has_another_scheme_is_not_a_folder():
    assert checked_address("memory://", "passages") == ("memory://", None)
    assert checked_address("s3://bucket/path", "passages") == ("s3://bucket/path", None)


def test_a_folder_with_other_things_is_refused_though_a_table_lies_in_it(tmp_path):
    with dpr_lance.connect(tmp_path / "app" / "data", encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "1", "text": "a river"}])
    app = tmp_path / "app"
    (app / "main.py").write_text("code")
    (app / "other.lance").mkdir()
    with pytest.raises(InvalidInputError, match=r"holds other things \('data', …\) and no table 'passages'"):
        dpr_lance.connect(app)
    assert sorted(path.name for path in app.iterdir()) == ["data", "main.py", "other.lance"]


def test_a_table_is_found_among_other_things(tmp_path):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add([{"id": "1", "text": "a river"}])
    (tmp_path / "t" / "notes.txt").write_text("mine")
    with dpr_lance.connect(tmp_path / "t") as retriever:
        assert len(retriever) == 1
    with pytest.raises(InvalidInputError, match="no table 'others'"):
        dpr_lance.connect(tmp_path / "t", table="others")


def test_several_tables_share_a_folder(tmp_path):
    for name in ("one", "two"):
        with dpr_lance.connect(tmp_path / "t", table=name, encoder=HashEncoder(16)) as retriever:
            retriever.add([{"id": name, "text": "a river"}])


@pytest.mark.parametrize("path", ["x" * 5_000, "x/" * 3_000])
def test_a_path_that_is_too_long_is_named(path):
    with pytest.raises(InvalidInputError, match="cannot be opened"):
        dpr_lance.connect(path)
