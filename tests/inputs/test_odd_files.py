"""Odd files: what has no end is not read, what is too long is named and passed over, and memory stays bounded."""

import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpr_lance import Document, InvalidInputError
from dpr_lance.inputs.files import FileDocuments
from dpr_lance.inputs.lines import csv_rows, json_items
from dpr_lance.inputs.listing import list_files
from dpr_lance.inputs.questions import read_questions
from dpr_lance.records.reports import Skipped

MEGABYTE = 1 << 20


def read(*paths, **options):
    return list(FileDocuments(list_files(paths).files, **options))


def kinds(items):
    return [type(item) for item in items]


class TestWhatHasNoEnd:
    @pytest.fixture
    def odd(self, tmp_path):
        (tmp_path / "zeros.txt").symlink_to("/dev/zero")
        (tmp_path / "zeros.jsonl").symlink_to("/dev/zero")
        os.mkfifo(tmp_path / "pipe.jsonl")
        (tmp_path / "nowhere.md").symlink_to(tmp_path / "gone")
        (tmp_path / "loop.md").symlink_to(tmp_path / "loop.md")
        (tmp_path / "good.txt").write_text("good")
        return tmp_path

    def test_in_a_folder_it_is_left_out_and_named(self, odd):
        listing = list_files([odd])
        assert [path.name for path in listing.files] == ["good.txt"]
        assert sorted(path.name for path in listing.odd) == [
            "loop.md", "nowhere.md", "pipe.jsonl", "zeros.jsonl", "zeros.txt"
        ]  # fmt: skip
        (remark,) = listing.remarks()
        assert remark.startswith("left out: 5 pipes, devices and links")
        assert "zeros.txt" in remark

    @pytest.mark.parametrize("name", ["zeros.txt", "zeros.jsonl", "pipe.jsonl"])
    def test_named_it_is_refused(self, odd, name):
        with pytest.raises(InvalidInputError, match=rf"{name}: this is a pipe or a device"):
            list_files([odd / name])
        with pytest.raises(InvalidInputError, match=rf"{name}: this is not a regular file"):
            list(FileDocuments([odd / name]))
        assert kinds(FileDocuments([odd / name, odd / "good.txt"], on_error="skip")) == [Skipped, Document]

    @pytest.mark.parametrize("name", ["zeros.jsonl", "pipe.jsonl"])
    def test_as_questions_too(self, odd, name):
        with pytest.raises(InvalidInputError, match=rf"{name}: this is not a regular file"):
            list(read_questions(odd / name))

    def test_links_to_files_are_read(self, tmp_path):
        (tmp_path / "a").write_text("text")
        (tmp_path / "b.txt").symlink_to(tmp_path / "a")
        assert [document.text for document in read(tmp_path / "b.txt")] == ["text"]


class _Endless(io.RawIOBase):
    """An endless line."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


def test_an_endless_line_on_standard_input_is_refused():
    documents = FileDocuments((), max_document_bytes=1_000).read_lines(io.BufferedReader(_Endless()))
    with pytest.raises(InvalidInputError, match=r"standard input:1: longer than 1,000 bytes.*max_document_bytes"):
        next(documents)


LONG = "word " * 400
GOOD = {"text": "good"}


def too_long_files(folder):
    """Files with a record that is too long between two good ones, and the place of it."""
    records = [GOOD, {"text": LONG}, GOOD]
    (folder / "a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    yield folder / "a.jsonl", "a.jsonl:2", [Document, Skipped, Document]
    (folder / "a.jsonl.gz").write_bytes(gzip.compress((folder / "a.jsonl").read_bytes()))
    yield folder / "a.jsonl.gz", "a.jsonl.gz:2", [Document, Skipped, Document]
    (folder / "a.csv").write_text(f"text\ngood\n{LONG}\ngood\n")
    yield folder / "a.csv", "a.csv:3", [Document, Skipped, Document]
    (folder / "b.csv").write_text(f'text\ngood\n"{LONG}\n{LONG}"\ngood\n')
    yield folder / "b.csv", "b.csv:3", [Document, Skipped, Skipped, Document]
    (folder / "a.json").write_text(json.dumps(records))
    yield folder / "a.json", "a.json", [Document, Skipped]
    (folder / "a.txt").write_text(LONG)
    yield folder / "a.txt", "a.txt", [Skipped]
    pq.write_table(pa.Table.from_pylist(records), folder / "a.parquet")
    yield folder / "a.parquet", "a.parquet: row 2", [Document, Skipped, Document]


def test_a_record_that_is_too_long_is_named_or_skipped(tmp_path):
    for path, place, expected in too_long_files(tmp_path):
        with pytest.raises(InvalidInputError, match=rf"{place}: longer than 1,000 bytes"):
            read(path, max_document_bytes=1_000)
        found = read(path, max_document_bytes=1_000, on_error="skip")
        assert kinds(found) == expected, path
        assert next(item for item in found if isinstance(item, Skipped)).place.endswith(place)
        assert set(kinds(read(path))) == {Document}


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9", None])
def test_limits_that_are_none(limit):
    with pytest.raises(InvalidInputError, match="max_document_bytes="):
        FileDocuments([], max_document_bytes=limit)


def test_at_the_limit_a_record_is_read(tmp_path):
    for length in (999, 1_000, 1_001):
        (tmp_path / "a.txt").write_text("x" * length)
        (tmp_path / "a.jsonl").write_text(f'{{"text": "{"x" * (length - 12)}"}}\n')
        (tmp_path / "a.csv").write_text(f"text\n{'x' * (length - 1)}\n")
        for name in ("a.txt", "a.jsonl", "a.csv"):
            expected = [Document if length <= 1_000 else Skipped]
            assert kinds(read(tmp_path / name, max_document_bytes=1_000, on_error="skip")) == expected, (name, length)


class TestQuotationMarks:
    def test_one_that_nothing_closes_costs_its_own_row_alone(self, tmp_path):
        lines = ["text,year", "first,1", '"second,2', *(f"row {number},3" for number in range(500))]
        (tmp_path / "a.csv").write_text("\n".join(lines))
        found = read(tmp_path / "a.csv", on_error="skip")
        assert kinds(found) == [Document, Skipped, *[Document] * 500]
        assert found[1].place.endswith("a.csv:3")
        with pytest.raises(InvalidInputError, match=r"a\.csv:3: not CSV"):
            read(tmp_path / "a.csv")

    def test_places_stay_right_after_it(self):
        content = b'\xef\xbb\xbfa\n"open\nb\n"c\nd"\n"e" f\n\xff\ng\n"h\ni'
        found = list(csv_rows(io.BytesIO(content), ","))
        told = [(number, cells if isinstance(cells, list) else str(cells)[:30]) for number, cells in found]
        assert [number for number, _ in told] == [1, 2, 3, 4, 6, 7, 8, 9, 10]
        assert told[2] == (3, ["b"])
        assert told[3] == (4, ["c\nd"])
        offset = content.index(b"\xff")
        assert told[5][1].startswith("not UTF-8: byte 0xff at offset"), told
        assert f"offset {offset} " in str(found[5][1])
        assert told[6] == (8, ["g"])
        assert told[8] == (10, ["i"])

    def test_it_is_read_in_linear_time(self):
        """A subprocess with a limit: the quadratic way takes hours."""
        code = (
            "import io\n"
            "from dpr_lance.inputs.lines import csv_rows\n"
            "for unit in (b'\"a\\n', b'\"\\n', b'a,\"\"\"\\n', b'\"\"\"a\\n\\n', b'\"a\\n' + b'x\\n' * 50, b'\"'):\n"
            "    for _ in csv_rows(io.BytesIO(unit * (400_000 // len(unit))), ','): pass\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestJsonLists:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ('[{"a": 1} {"a": 2}]', "a comma or the end of the list is missing, line 1 column 11"),
            ("[1,\n2,\n 3", "a comma or the end of the list is missing, line 3 column 3, where the text ends"),
            ("[1] 2", "more text after its end, line 1 column 5, at '2'"),
            ('[\n\n  {"a": tru}]', "Expecting value, line 3 column 9, at 'tru}]'"),
            ("[1, ]", "Expecting value, line 1 column 5"),
        ],
    )
    def test_faults_name_line_and_column(self, content, said):
        *_, (_, problem) = json_items(io.BytesIO(content.encode()))
        assert said in str(problem)

    def test_lines_and_columns_far_into_the_text(self):
        content = "[\n" + '{"text": "x"},\n' * 50_000 + '  {"text": oops}]'
        *_, (line, problem) = json_items(io.BytesIO(content.encode()))
        assert line == 50_002
        assert "line 50002 column 12, at 'oops}]'" in str(problem)

    def test_bytes_that_are_not_utf8_are_named_by_their_offset(self):
        content = b'["' + "é".encode() * 60_000 + b'", "caf\xe9"]'
        *_, (_, problem) = json_items(io.BytesIO(content))
        assert f"not UTF-8: byte 0xe9 at offset {content.index(bytes([0xE9, 34]))} " in str(problem)

    def test_many_items_after_a_long_one_are_read_in_linear_time(self):
        code = (
            "import io\n"
            "from dpr_lance.inputs.lines import json_items\n"
            "content = '[\"' + 'x' * 5_000_000 + '\",' + ','.join(['{}'] * 200_000) + ']'\n"
            "assert sum(1 for _ in json_items(io.BytesIO(content.encode()))) == 200_001\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "json", "txt", "jsonl.gz", "txt.gz", "quote.csv"])
def test_memory_stays_bounded_while_skipping(tmp_path, kind):
    """A hundred megabytes without an end, in blocks; memory is a few times the limit."""
    starts = {"jsonl": '{"text": "', "csv": "text\n", "json": '[{"text": "', "quote.csv": 'text\n"'}
    path = tmp_path / f"a.{kind}"
    block = (b"word " * 20 + b"\n" if kind in ("txt", "txt.gz", "quote.csv") else b"word " * 20) * 10_000
    with gzip.open(path, "wb", compresslevel=1) if kind.endswith("gz") else path.open("wb") as out:
        out.write(starts.get(kind.removesuffix(".gz"), "").encode())
        for _ in range(100 if kind != "quote.csv" else 8):
            out.write(block)
    tracemalloc.start()
    found = iter(FileDocuments([path], on_error="skip", max_document_bytes=MEGABYTE))
    first = next(item for item in found if isinstance(item, Skipped))
    rest = sum(1 for _ in itertools.islice(found, 20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "longer than 1,048,576 bytes" in first.reason
    assert rest == (20_000 if kind == "quote.csv" else 0)
    assert peak < 16 * MEGABYTE, f"{peak:,}"


def test_parquet_rows_are_read_in_parts_that_fit(tmp_path):
    pq.write_table(pa.table({"text": ["x" * MEGABYTE + str(row) for row in range(64)]}), tmp_path / "a.parquet")
    tracemalloc.start()
    found = sum(1 for _ in FileDocuments([tmp_path / "a.parquet"], max_document_bytes=4 * MEGABYTE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == 64
    assert peak < 16 * MEGABYTE, f"{peak:,}"


class TestPandas:
    @pytest.mark.parametrize("separator", [",", "\t"])
    def test_the_index_that_pandas_writes_is_left_out(self, tmp_path, separator):
        name = "a.csv" if separator == "," else "a.tsv"
        rows = [["", "id", "text"], ["0", "a", "one"], ["1", "b", "two"]]
        (tmp_path / name).write_text("".join(separator.join(row) + "\n" for row in rows))
        assert read(tmp_path / name) == [Document("one", id="a"), Document("two", id="b")]

    def test_an_index_in_parquet_too(self, tmp_path):
        table = pa.table({"text": ["one"], "year": [1], "__index_level_0__": [7]})
        pq.write_table(table, tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet") == [Document("one", metadata={"year": 1})]

    def test_other_columns_without_a_name_are_kept_by_their_number(self, tmp_path):
        (tmp_path / "a.csv").write_text("text,,year,\none,x,1,\n")
        (document,) = read(tmp_path / "a.csv")
        assert document.metadata == {"column 2": "x", "year": "1", "column 4": None}

    def test_as_pandas_writes_it(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"text": ["one", "two"], "year": [1, 2]})
        frame.to_csv(tmp_path / "a.csv")
        assert [document.text for document in read(tmp_path / "a.csv")] == ["one", "two"]
        assert read(tmp_path / "a.csv")[0].metadata == {"year": "1"}


class TestBeir:
    @pytest.fixture(params=["", ".gz"])
    def beir(self, tmp_path, request):
        folder = tmp_path / "data" / "nfcorpus"
        (folder / "qrels").mkdir(parents=True)
        for name, record in (
            ("corpus", {"_id": "c", "text": "corpus"}),
            ("queries", {"_id": "q", "text": "query"}),
        ):
            content = (json.dumps(record) + "\n").encode()
            path = folder / f"{name}.jsonl{request.param}"
            path.write_bytes(gzip.compress(content) if request.param else content)
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
        return folder

    def test_only_the_corpus_is_documents(self, beir):
        for source in (beir, beir.parent):
            listing = list_files([source])
            assert [path.name.removesuffix(".gz") for path in listing.files] == ["corpus.jsonl"]
            assert listing.beir == (beir,)
            assert [document.text for document in FileDocuments(listing.files)] == ["corpus"]
            assert any("is a BEIR folder: its corpus is added" in remark for remark in listing.remarks())

    def test_queries_that_are_named_are_read(self, beir):
        queries = next(beir.glob("queries*"))
        assert [document.text for document in read(queries)] == ["query"]

    def test_a_folder_with_a_corpus_alone_is_a_folder(self, tmp_path):
        (tmp_path / "corpus.jsonl").write_text('{"text": "corpus"}\n')
        (tmp_path / "more.jsonl").write_text('{"text": "more"}\n')
        assert [document.text for document in read(tmp_path)] == ["corpus", "more"]
        assert list_files([tmp_path]).beir == ()


class TestIds:
    def test_a_file_has_one_id_however_it_is_named(self, tmp_path, monkeypatch):
        docs = tmp_path / "docs"
        docs.mkdir()
        (docs / "a.md").write_text("text")
        (tmp_path / "alias").symlink_to(docs)
        monkeypatch.chdir(docs)
        for source in (".", "../docs", str(docs), "a.md", "../docs/../docs/a.md", str(tmp_path / "alias")):
            listing = list_files([Path(source)])
            assert [document.id for document in FileDocuments(listing.files, base=tmp_path)] == ["docs/a.md"]
        assert len(list_files([docs, Path(), Path("a.md"), tmp_path / "alias"]).files) == 1

    def test_two_folders_do_not_collide(self, tmp_path):
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "README.md").write_text(name)
        listing = list_files([tmp_path / "one", tmp_path / "two"])
        found = FileDocuments(listing.files, base=tmp_path / "tables")
        assert [document.id for document in found] == ["../one/README.md", "../two/README.md"]
        (first, _) = FileDocuments(listing.files)
        assert first.id == (tmp_path / "one" / "README.md").as_posix()

    def test_a_link_to_a_file_is_a_file_of_its_own(self, tmp_path):
        (tmp_path / "v2.md").write_text("text")
        (tmp_path / "current.md").symlink_to("v2.md")
        found = read(tmp_path, base=tmp_path)
        assert [document.id for document in found] == ["current.md", "v2.md"]


@pytest.mark.parametrize("path", ["a\0b.txt", "x" * 5_000 + ".txt", "x/" * 3_000 + "a.txt"])
def test_paths_that_cannot_be(path):
    with pytest.raises(InvalidInputError, match=r"path|file"):
        list_files([Path(path)])
