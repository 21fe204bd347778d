"""Files, folders and standard input become documents; what cannot be read is named with its place."""

import csv
import gzip
import io
import json
import os
import tracemalloc
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpr_lance import Document
from dpr_lance.errors import InvalidInputError
from dpr_lance.inputs.files import STANDARD_INPUT, FieldNames, FileDocuments
from dpr_lance.inputs.listing import list_files
from dpr_lance.records.reports import Skipped


def read(*paths, **options):
    return list(FileDocuments(list_files(paths).files, **options))


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


RECORDS = [
    {"id": "a", "title": "Hamlet", "text": "To be, or not to be", "year": 1603},
    {"_id": "b", "text": "snö, 雪 and ❄"},
    {"text": "no id, no title"},
]
DOCUMENTS = [
    Document("To be, or not to be", "Hamlet", "a", {"year": 1603}),
    Document("snö, 雪 and ❄", "", "b"),
    Document("no id, no title"),
]


class TestJson:
    @pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "A.JSONL"])
    def test_each_line_is_a_document_and_blank_lines_are_none(self, tmp_path, name):
        content = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
        assert read(write(tmp_path / name, content)) == DOCUMENTS

    @pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz"])
    def test_compressed(self, tmp_path, name):
        lines = "\n".join(map(json.dumps, RECORDS)) if "jsonl" in name else json.dumps(RECORDS)
        assert read(write(tmp_path / name, gzip.compress(lines.encode()))) == DOCUMENTS

    def test_list_of_objects_and_one_object(self, tmp_path):
        assert read(write(tmp_path / "list.json", json.dumps(RECORDS, indent=2))) == DOCUMENTS
        assert read(write(tmp_path / "one.json", json.dumps(RECORDS[0]))) == DOCUMENTS[:1]

    def test_the_last_extension_gives_the_separator(self, tmp_path):
        assert read(write(tmp_path / "a.tsv.csv", "text,title\nx,t\n")) == [Document("x", title="t")]
        assert read(write(tmp_path / "a.csv.tsv", "text\ttitle\nx\tt\n")) == [Document("x", title="t")]

    def test_byte_order_mark_is_dropped(self, tmp_path):
        mark = b"\xef\xbb\xbf"
        assert read(write(tmp_path / "a.jsonl", mark + b'{"text": "x"}')) == [Document("x")]
        assert read(write(tmp_path / "a.json", mark + b'{"text": "x"}')) == [Document("x")]
        assert read(write(tmp_path / "a.csv", mark + b"text\nx\n")) == [Document("x")]
        assert read(write(tmp_path / "a.txt", mark + b"x"))[0].text == "x"

    def test_windows_line_ends(self, tmp_path):
        assert read(write(tmp_path / "a.jsonl", b'{"text": "x"}\r\n\r\n{"text": "y"}\r\n')) == [
            Document("x"),
            Document("y"),
        ]

    def test_an_own_id_wins_over_beirs(self, tmp_path):
        found = read(write(tmp_path / "a.jsonl", '{"id": "mine", "_id": "theirs", "text": "x"}'))
        assert found == [Document("x", id="mine", metadata={"_id": "theirs"})]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"text": "x"', ["a.jsonl:2: not JSON", "column 13"]),
            ('["x"]', ["a.jsonl:2: a record is a JSON object", "list"]),
            ('"x"', ["a.jsonl:2: a record is a JSON object", "str"]),
            ('{"txt": "x"}', ["a.jsonl:2: there is no field 'text'", "'txt'"]),
            ("{}", ["a.jsonl:2: there is no field 'text'", "none"]),
            ('{"text": null}', ["a.jsonl:2: 'text' is empty (None)"]),
            ('{"text": "  "}', ["a.jsonl:2: 'text' is blank"]),
            ('{"text": 7}', ["a.jsonl:2: text must be a string", "int"]),
            ('{"id": "k", "text": "x", "title": ["t"]}', ["a.jsonl:2 (id 'k'): title must be a string"]),
            ('{"text": "\\ud800"}', ["a.jsonl:2: text has a lone surrogate"]),
            ('{"text": "x", "id": " "}', ["a.jsonl:2", "'id' is blank"]),
            ('{"text": "x", "vector": [1]}', ["a.jsonl:2: the field 'vector' has the name of a column"]),
            ("[" * 100_000, ["a.jsonl:2: JSON that cannot be read"]),
        ],
    )
    def test_a_bad_line_is_named_or_skipped(self, tmp_path, line, said):
        path = write(tmp_path / "a.jsonl", f'{{"text": "first"}}\n{line}\n{{"text": "last"}}\n')
        with pytest.raises(InvalidInputError) as caught:
            read(path)
        for part in said:
            assert part in str(caught.value)
        first, skipped, last = read(path, on_error="skip")
        assert (first, last) == (Document("first"), Document("last"))
        assert isinstance(skipped, Skipped)
        assert skipped.place == f"{path}:2"
        assert f"{path}" not in skipped.reason

    def test_bytes_that_are_not_utf8_are_named_by_their_offset(self, tmp_path):
        path = write(tmp_path / "a.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}\n{"text": "y"}\n')
        with pytest.raises(InvalidInputError, match=r"a\.jsonl:2: not UTF-8: byte 0xe9 at offset 27 of the file"):
            read(path)
        assert path.read_bytes()[27] == 0xE9
        assert [type(item) for item in read(path, on_error="skip")] == [Document, Skipped, Document]

    def test_utf16_is_recognised(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"a\.json: not UTF-8: .* probably UTF-16"):
            read(write(tmp_path / "a.json", '{"text": "x"}'.encode("utf-16")))

    def test_a_bad_item_of_a_list_is_numbered(self, tmp_path):
        path = write(tmp_path / "a.json", '[{"text": "x"}, {"title": "t"}, {"text": "y"}]')
        with pytest.raises(InvalidInputError, match=r"a\.json: item 2: there is no field 'text'"):
            read(path)
        assert [type(item) for item in read(path, on_error="skip")] == [Document, Skipped, Document]

    def test_json_that_breaks_off_names_line_and_column(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"a\.json: not JSON: .*, line 3 column 1, where the text ends"):
            read(write(tmp_path / "a.json", '[{"text": "x"},\n{"text": "y"}\n'))
        with pytest.raises(InvalidInputError, match=r"a\.json: not JSON: .*, line 2 column 12, at 'oops}]'"):
            read(write(tmp_path / "a.json", '[{"text": "x"},\n  {"text": oops}]'))

    def test_empty_files(self, tmp_path):
        assert read(write(tmp_path / "a.jsonl", "")) == []
        assert read(write(tmp_path / "a.csv", "")) == []
        for name in ("a.json", "a.txt", "a.md", "a.md.gz", "a.parquet"):
            path = write(tmp_path / name, gzip.compress(b" ") if name.endswith(".gz") else "")
            for on_error in ("raise", "skip"):
                assert read(path, on_error=on_error) == [Skipped(str(path), "the file is empty")]
        for name, content in (("b.json", " \n"), ("b.json", "[]"), ("b.md", "\ufeff \n\t\n"), ("b.txt", "\u200b")):
            path = write(tmp_path / name, content)
            assert read(path) == [Skipped(str(path), "the file is empty")]
        with pytest.raises(InvalidInputError, match=r"a\.jsonl:1: 'text' is blank"):
            read(write(tmp_path / "a.jsonl", '{"text": " "}'))


class TestCsv:
    def test_extra_columns_are_metadata_and_empty_cells_missing_values(self, tmp_path):
        path = write(tmp_path / "a.csv", 'id,title,text,year\n1,Hamlet,"To be, or\nnot ""to"" be",1603\n,,no title,\n')
        assert read(path) == [
            Document('To be, or\nnot "to" be', "Hamlet", "1", {"year": "1603"}),
            Document("no title", metadata={"year": None}),
        ]

    def test_tabs(self, tmp_path):
        content = "title\ttext\nHamlet\tTo be, or not\n"
        assert read(write(tmp_path / "a.tsv", content)) == [Document("To be, or not", "Hamlet")]
        assert read(write(tmp_path / "a.tsv.gz", gzip.compress(content.encode()))) == [
            Document("To be, or not", "Hamlet")
        ]

    def test_a_two_megabyte_cell(self, tmp_path):
        text = "word " * 400_000
        assert read(write(tmp_path / "a.csv", f"text\n{text}\n"))[0].text == text

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("one,2,3", ["3 cells, but the header has 2 (text, year)"]),
            ("one", ["1 cells, but the header has 2"]),
            ('"one" more,2', ["not CSV"]),
            (",2", ["'text' is empty (None)"]),
            ("caf\udce9,2", ["not UTF-8: byte 0xe9 at offset 22"]),
        ],
    )
    def test_a_bad_row_is_named_or_skipped(self, tmp_path, row, said):
        path = write(tmp_path / "a.csv", f"text,year\nfirst,1\n\n{row}\nlast,2\n".encode(errors="surrogateescape"))
        with pytest.raises(InvalidInputError) as caught:
            read(path)
        assert f"{path}:4" in str(caught.value)
        for part in said:
            assert part in str(caught.value)
        found = read(path, on_error="skip")
        assert [type(item) for item in found] == [Document, Skipped, Document]
        assert found[1].place == f"{path}:4"

    def test_the_line_of_a_record_of_several_lines_is_its_first(self, tmp_path):
        path = write(tmp_path / "a.csv", 'text,year\n"a\nb\nc",1\n"d\ne",1,2\n')
        with pytest.raises(InvalidInputError, match=r"a\.csv:5: 3 cells"):
            read(path)

    def test_an_open_quotation_mark_names_the_line_where_it_opens(self, tmp_path):
        path = write(tmp_path / "a.csv", 'text,year\nfirst,1\n"second,2\nthird,3\n')
        with pytest.raises(InvalidInputError, match=r"a\.csv:3: not CSV \(unexpected end of data\)"):
            read(path)

    def test_headers_that_cannot_be_used(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"a\.csv:1: the header names 'text' twice"):
            read(write(tmp_path / "a.csv", "text,text\na,b\n"))
        with pytest.raises(
            InvalidInputError, match=r"b\.csv:2: there is no field 'text'; the fields are: 'body', 'year'"
        ):
            read(write(tmp_path / "b.csv", "body,year\na,b\n"))

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1).filter(
                    lambda text: any(character.isprintable() and not character.isspace() for character in text)
                ),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")),
            )
        )
    )
    def test_whatever_the_csv_module_writes_comes_back(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("csv") / "a.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("text", "note"), *rows])
        expected = [Document(text, metadata={"note": note or None}) for text, note in rows]
        assert read(path) == expected


class TestParquet:
    def test_rows_with_their_types(self, tmp_path):
        rows = [
            {"id": 7, "text": "x", "day": date(2026, 1, 2), "tags": ["a", "b"], "score": 0.5},
            {"id": 8, "text": "y", "day": None, "tags": [], "score": None},
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        assert read(tmp_path / "a.parquet") == [
            Document("x", id="7", metadata={"day": date(2026, 1, 2), "tags": ["a", "b"], "score": 0.5}),
            Document("y", id="8", metadata={"day": None, "tags": [], "score": None}),
        ]

    def test_a_bad_row_is_named_or_skipped(self, tmp_path):
        pq.write_table(pa.table({"text": ["x", " ", "y"]}), tmp_path / "a.parquet")
        with pytest.raises(InvalidInputError, match=r"a\.parquet: row 2: 'text' is blank"):
            read(tmp_path / "a.parquet")
        assert [type(item) for item in read(tmp_path / "a.parquet", on_error="skip")] == [Document, Skipped, Document]

    @pytest.mark.parametrize("content", [b"P", b"not parquet at all", b"PAR1 broken PAR1"])
    def test_a_file_that_is_not_parquet(self, tmp_path, content):
        path = write(tmp_path / "a.parquet", content)
        with pytest.raises(InvalidInputError, match=r"a\.parquet: this is not a Parquet file"):
            read(path)
        (skipped,) = read(path, on_error="skip")
        assert skipped.place == str(path)

    def test_a_damaged_row_group_ends_the_file_with_an_error(self, tmp_path):
        path = tmp_path / "a.parquet"
        texts = [os.urandom(50).hex() for _ in range(5_000)]
        pq.write_table(pa.table({"text": texts}), path, row_group_size=2_500, compression="zstd", use_dictionary=False)
        content = bytearray(path.read_bytes())
        half = len(content) * 3 // 4
        content[half : half + 2_000] = bytes(2_000)
        with pytest.raises(
            InvalidInputError, match=r"a\.parquet: this is not a Parquet file that can be read, after row \d+"
        ):
            read(write(path, bytes(content)))


class TestText:
    def test_the_path_is_the_id_and_the_first_heading_the_title(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "notes" / "deep" / "b.md", "intro\n```\n# not this\n```\n## Snow ❄ ##\ntext\n# Later")
        write(tmp_path / "notes" / "a.txt", "# plain text has no headings")
        found = read(list_files([tmp_path.relative_to(tmp_path) / "notes"]).files[0].parent, base=tmp_path)
        assert [(document.id, document.title) for document in found] == [
            ("notes/a.txt", "a"),
            ("notes/deep/b.md", "Snow ❄"),
        ]

    def test_the_file_name_stands_in_for_a_heading(self, tmp_path):
        assert read(write(tmp_path / "read me.md", "#hashtag, not a heading"))[0].title == "read me"
        assert read(write(tmp_path / "old.txt.gz", gzip.compress(b"text")))[0].title == "old"

    def test_not_utf8(self, tmp_path):
        path = write(tmp_path / "a.md", b"# caf\xe9")
        with pytest.raises(InvalidInputError, match=r"a\.md: not UTF-8: byte 0xe9 at offset 5"):
            read(path)
        assert read(path, on_error="skip")[0].place == str(path)


class TestListing:
    def test_folders_are_read_whole_in_order_without_hidden_files_and_tables(self, tmp_path):
        for name in ["b.txt", "a/z.txt", "a/.hidden.txt", ".git/c.txt", "x.lance/d.txt", "a/photo.png", "c"]:
            write(tmp_path / name, "text")
        listing = list_files([tmp_path])
        assert [path.relative_to(tmp_path).as_posix() for path in listing.files] == ["a/z.txt", "b.txt"]
        assert [path.name for path in listing.left_out] == ["photo.png", "c"]

    def test_a_file_reached_twice_is_read_once(self, tmp_path):
        path = write(tmp_path / "b.txt", "text")
        assert list_files([tmp_path, path]).files == (path,)

    def test_a_link_to_a_folder_is_not_followed(self, tmp_path):
        write(tmp_path / "a.txt", "text")
        (tmp_path / "loop").symlink_to(tmp_path)
        assert len(list_files([tmp_path]).files) == 1

    def test_paths_that_cannot_be_used(self, tmp_path):
        with pytest.raises(InvalidInputError, match=r"nowhere\.txt: there is no such file or folder"):
            list_files([tmp_path / "nowhere.txt"])
        with pytest.raises(InvalidInputError, match=r"a\.pdf: a file of unknown kind; known are \.jsonl, .*\.parquet"):
            list_files([write(tmp_path / "a.pdf", "text")])
        with pytest.raises(InvalidInputError, match=r"no file here can be read; known are"):
            list_files([tmp_path])

    @pytest.mark.parametrize("name", ["a.parquet.gz", "jsonl", "a.gz", "a.tar.gz"])
    def test_unknown_kinds(self, tmp_path, name):
        with pytest.raises(InvalidInputError, match="unknown kind"):
            list_files([write(tmp_path / name, "x")])


def test_damaged_compression_names_the_file_and_keeps_what_came_before(tmp_path):
    whole = gzip.compress(b"".join(json.dumps({"text": os.urandom(20).hex()}).encode() + b"\n" for _ in range(2_000)))
    path = write(tmp_path / "a.jsonl.gz", whole[: len(whole) // 2])
    with pytest.raises(InvalidInputError, match=r"a\.jsonl\.gz: the compressed file is damaged or cut short"):
        read(path)
    *documents, skipped = read(path, write(tmp_path / "b.txt", "the next file"), on_error="skip")[:-1]
    assert len(documents) > 100
    assert skipped.place == str(path)
    with pytest.raises(InvalidInputError, match=r"c\.csv\.gz: the compressed file is damaged"):
        read(write(tmp_path / "c.csv.gz", "no gzip"))


def test_a_file_that_vanishes_is_named(tmp_path):
    path = write(tmp_path / "a.txt", "text")
    documents = FileDocuments(list_files([path]).files)
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"a\.txt: the file cannot be read \(No such file"):
        list(documents)


def test_standard_input_is_json_lines():
    lines = io.BytesIO(b'{"text": "x"}\n\nbad\n{"text": "y"}\n')
    found = list(FileDocuments((), on_error="skip").read_lines(lines))
    assert found[0] == Document("x")
    assert found[1].place == f"{STANDARD_INPUT}:3"
    assert found[2] == Document("y")


class TestFieldNames:
    def test_renamed_and_displaced_fields(self):
        names = FieldNames(id="url", text="body", title="headline")
        fields = {"url": "u", "body": "b", "headline": "h", "id": 1, "title": "t", "year": 2000}
        assert names.renamed(fields) == {
            "id": "u", "text": "b", "title": "h", "record_id": 1, "record_title": "t", "year": 2000,
        }  # fmt: skip

    def test_one_field_can_serve_twice(self):
        assert FieldNames(id="title").renamed({"title": "t", "text": "x"}) == {"id": "t", "title": "t", "text": "x"}

    def test_a_missing_text_field_names_those_that_are_there(self, tmp_path):
        path = write(tmp_path / "a.jsonl", '{"text": "x", "headline": "h"}')
        with pytest.raises(
            InvalidInputError, match=r"a\.jsonl:1: there is no field 'body'; the fields are: 'text', 'headline'"
        ):
            read(path, field_names=FieldNames(text="body"))


def test_bytes_read_grow_to_the_total(tmp_path):
    paths = [write(tmp_path / f"{name}.jsonl", '{"text": "x"}\n' * 20_000) for name in "ab"]
    documents = FileDocuments(paths)
    assert documents.bytes_total == 2 * 14 * 20_000
    seen = [documents.bytes_read for _ in documents]
    assert seen == sorted(seen)
    assert seen[0] < documents.bytes_total // 4
    assert documents.bytes_read == documents.bytes_total


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_memory_stays_small_whatever_the_size(tmp_path, kind):
    text = "word " * 200
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text(f'{{"text": "{text}"}}\n' * 20_000)
    elif kind == "csv":
        path.write_text("text\n" + f"{text}\n" * 20_000)
    else:
        pq.write_table(pa.table({"text": [text] * 20_000}), path, row_group_size=2_000)
    tracemalloc.start()
    count = sum(1 for _ in FileDocuments([path]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 4 << 20, f"{peak:,} bytes for a file of 20 MB"
