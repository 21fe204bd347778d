"""Vectors of the paper's embedding files for passages that are stored as text."""

import numpy as np
import pytest

from dpr_lance import HashEncoder, InvalidInputError, TableError, VectorReport, connect
from dpr_lance.cli import app as cli
from tests.inputs.embedding_files import vectors, write

PASSAGES = [
    ("1", 'Aaron or Aharon is "a prophet", high priest, and the brother of Moses.', "Aaron"),
    ("2", "God at Sinai granted Aaron the priesthood for himself.", "Aaron"),
    ("3", "The Alps are a mountain range\tin Europe.", "Alps"),
]


def imported(folder, files, **options):
    with connect(folder) as retriever:
        return retriever.import_vectors(files, **options)


@pytest.fixture
def wiki(tmp_path):
    """The three passages in the form of psgs_w100.tsv, added without vectors."""
    quoted = [(name, '"' + text.replace('"', '""') + '"', title) for name, text, title in PASSAGES]
    lines = ["id\ttext\ttitle", *("\t".join(row) for row in quoted)]
    (tmp_path / "psgs_w100.tsv").write_text("\n".join(lines) + "\n")
    with connect(tmp_path / "wiki", encoder=HashEncoder(8)) as retriever:
        retriever.add([{"id": "0", "text": "the table's encoder is the hash encoder"}], embed=False)
        retriever.delete("0")
    arguments = ["add", tmp_path / "wiki", tmp_path / "psgs_w100.tsv", "--whole", "--no-embed"]
    assert cli.run([str(argument) for argument in arguments]) == 0
    return tmp_path / "wiki"


def test_each_row_is_a_document_of_one_passage(wiki):
    with connect(wiki) as retriever:
        stored = sorted(retriever.passages(), key=lambda passage: passage.id)
    assert [(passage.document_id, passage.text, passage.title) for passage in stored] == PASSAGES
    assert [passage.id for passage in stored] == ["1#0", "2#0", "3#0"]
    assert not any(passage.embedded for passage in stored)


@pytest.mark.parametrize("prefix", ["", "wiki:"])
def test_searches_use_the_imported_vectors(wiki, tmp_path, prefix):
    encoder = HashEncoder(8)
    question = encoder.encode_questions(["who was aaron?"])[0]
    made = [
        (f"{prefix}{name}", (sign * question).astype(np.float32)) for name, sign in (("1", 1), ("2", -1), ("3", 0.5))
    ]
    first, second = write(tmp_path / "a.pkl", [*made[:2], ("99", question)]), write(tmp_path / "b.pkl", made[2:])
    report = imported(wiki, [first, second])
    assert (report.passages, report.unknown) == (3, 1)
    with connect(wiki, encoder=encoder) as retriever:
        hits = retriever.search("who was aaron?", 3, mode="dense")
        assert [hit.document_id for hit in hits] == ["1", "3", "2"]
        assert hits[1].dense_score == pytest.approx(0.5 * hits[0].dense_score)
        assert retriever.embed().passages_embedded == 0
        # Nothing was added or replaced, and the text's hash still fits.
        assert (
            retriever.add([{"id": "1", "title": "Aaron", "text": PASSAGES[0][1]}], splitter=None).documents_unchanged
            == 1
        )


def test_the_command(wiki, tmp_path, capsys):
    path = write(tmp_path / "a.pkl", vectors(3))
    assert cli.run(["import-vectors", str(wiki), str(path), "--json"]) == 0
    assert '"passages": 3, "unknown": 0' in capsys.readouterr().out
    with connect(wiki) as retriever:
        assert retriever.info().embedded == 3


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            [("2", np.ones(7, np.float32))],
            "the vector of '2' has 7 numbers; those of the table's encoder 'hash-8' are 8",
        ),
        ([("2", np.full(8, np.nan, np.float32))], "the vector of '2' has NaN or infinity in it"),
        ([("wiki:77", np.ones(8, np.float32))], "has none of the 1 ids in the files, as 'wiki:77'"),
    ],
)
def test_vectors_that_do_not_fit(wiki, tmp_path, made, said):
    with pytest.raises(InvalidInputError, match=said):
        imported(wiki, [write(tmp_path / "a.pkl", made)])
    with connect(wiki) as retriever:
        assert retriever.info().embedded == 0


def test_a_document_of_several_passages(wiki, tmp_path):
    with connect(wiki, encoder=HashEncoder(8)) as retriever:
        retriever.add([{"id": "9", "text": "word " * 150}])
    with pytest.raises(InvalidInputError, match="'9' is a document of several passages"):
        imported(wiki, [write(tmp_path / "a.pkl", [("9", np.ones(8, np.float32))])])
    by_passage = write(tmp_path / "b.pkl", [("9#0", np.ones(8, np.float32)), ("9#1", np.zeros(8, np.float32))])
    assert imported(wiki, [by_passage]).passages == 2


def test_no_files_and_no_table(wiki, tmp_path):
    assert imported(wiki, []) == VectorReport(0, 0, pytest.approx(0, abs=60))
    with pytest.raises(TableError, match="does not exist yet"):
        imported(tmp_path / "none", [])


def test_the_retriever_that_is_open_gets_them_and_reports_progress(tmp_path):
    """Nothing is opened a second time: a table in memory is no other retriever's."""
    files = [write(tmp_path / "a.pkl", vectors(2)), write(tmp_path / "b.pkl", vectors(3)[2:])]
    seen = []
    with connect("memory://", encoder=HashEncoder(8)) as retriever:
        retriever.add([{"id": name, "text": text} for name, text, _ in PASSAGES], splitter=None, embed=False)
        report = retriever.import_vectors(map(str, files), progress=seen.append)
        assert (report.passages, report.unknown, retriever.info().embedded) == (3, 0, 3)
        assert [progress.passages for progress in seen] == [2, 3]
        for files, said in [("a.pkl", "give a list of files"), ([3], r"files\[0\]=3")]:
            with pytest.raises(InvalidInputError, match=said):
                retriever.import_vectors(files)
