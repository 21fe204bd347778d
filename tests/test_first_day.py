"""Small surprises of a first day: what a new user tries, and what it says."""

import json
from dataclasses import replace

import pytest

import dpr_lance
from dpr_lance import EncoderError, HashEncoder, InvalidInputError
from dpr_lance.cli import app as cli
from dpr_lance.search.stopwatch import STAGES

RIVERS = [{"id": str(number), "text": f"river number {number}"} for number in range(3)]


class Heavy(HashEncoder):
    """An encoder whose own weight is out of scale for three passages."""

    WEIGHT = 5_000.0

    @property
    def card(self):
        return replace(super().card, hybrid_weight=self.WEIGHT)


@pytest.fixture
def run(capsys):
    def run_command(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run_command


@pytest.mark.parametrize("questions", [None, ["river"], [{"question": "river", "labels": ["0"]}]])
def test_a_few_passages_do_not_move_the_weight(tmp_path, questions):
    with dpr_lance.connect(tmp_path / "t", encoder=Heavy(16)) as retriever:
        retriever.add(RIVERS)
        usual = retriever.info().encoder.hybrid_weight
        assert usual == Heavy.WEIGHT
        assert retriever.calibrate(questions).hybrid_weight == usual
        assert retriever.search("river").hybrid_weight == usual


@pytest.mark.parametrize("mode", [None, "hybrid", "dense", "bm25"])
def test_every_answer_has_the_same_times(tmp_path, mode):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        assert set(retriever.search("river", mode=mode).seconds) == set(STAGES)
        retriever.add(RIVERS)
        for hits in (
            retriever.search("river", mode=mode),
            *retriever.search(["river", "sea"], mode=mode, explain=True),
        ):
            assert set(hits.seconds) == set(STAGES)
            assert hits.seconds["total"] > 0
        retriever.delete(["0", "1", "2"])
        assert set(retriever.search("river", mode=mode).seconds) == set(STAGES)


def test_an_encoder_that_was_named_is_never_replaced_by_bm25(tmp_path, run):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(RIVERS)
    with dpr_lance.connect(tmp_path / "t", encoder="no/such folder") as retriever:
        for attempt in (
            lambda: retriever.search("river"),
            lambda: retriever.search(["river"], mode="dense"),
            lambda: retriever.add([{"text": "a lake"}]),
            retriever.warm,
        ):
            with pytest.raises(EncoderError, match=r"'no/such folder' is neither packaged \(.*all-MiniLM-L6-v2"):
                attempt()
        assert len(retriever) == 3
    code, out, err = run("search", tmp_path / "t", "river", "--encoder", "no/such folder")
    assert (code, out) == (1, "")
    assert "all-MiniLM-L6-v2" in err
    # The table's own encoder is an object that is gone: BM25 stands in for it, and says so.
    with dpr_lance.connect(tmp_path / "t") as retriever:
        assert "encoder object" in retriever.search("river").fallback


@pytest.mark.parametrize("mode", [None, "hybrid", "dense"])
def test_an_empty_table_lacks_no_vectors(tmp_path, mode):
    with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
        retriever.add(RIVERS)
        retriever.delete(["0", "1", "2"])
        hits = retriever.search("river", mode=mode)
        assert (len(hits), hits.fallback) == (0, None)
        assert retriever.embed().not_embedded is None
        retriever.add(RIVERS, embed=False)
        if mode == "dense":
            with pytest.raises(EncoderError, match="no passage has a vector yet"):
                retriever.search("river", mode=mode)
        else:
            assert "no passage has a vector yet" in retriever.search("river", mode=mode).fallback


class TestLabels:
    @pytest.fixture
    def retriever(self, tmp_path):
        with dpr_lance.connect(tmp_path / "t", encoder=HashEncoder(16)) as retriever:
            retriever.add(RIVERS)
            yield retriever

    @pytest.mark.parametrize("count", [1, 3])
    def test_none_that_is_stored_is_an_error(self, retriever, count):
        questions = [{"question": f"river {number}", "labels": [f"doc-{number}"]} for number in range(count)]
        with pytest.raises(
            InvalidInputError, match=rf"none of the {count} labels .* is stored here, for example 'doc-0'"
        ):
            dpr_lance.evaluate(retriever, questions)

    def test_some_are_counted(self, retriever):
        questions = [{"question": "river", "labels": ["0", "gone"]}, {"question": "number", "labels": ["1#0", "lost"]}]
        found = dpr_lance.evaluate(retriever, questions)
        assert (found.labels, found.labels_missing) == (4, 2)

    def test_answers_can_be_judged_without_labels(self, retriever):
        found = dpr_lance.evaluate(retriever, [{"question": "river", "labels": ["gone"], "answers": ["river"]}])
        assert (found.labels, found.labels_missing) == (1, 1)
        assert found.rows[0].by_answer[1].mean == 1.0

    def test_it_is_said_on_the_command_line(self, tmp_path, run):
        source = tmp_path / "a.jsonl"
        source.write_text("".join(json.dumps(river) + "\n" for river in RIVERS))
        run("add", tmp_path / "lib", source)
        questions = tmp_path / "q.jsonl"
        questions.write_text('{"question": "river", "labels": ["0", "gone"]}\n')
        code, _, err = run("eval", tmp_path / "lib", questions, "--mode", "bm25")
        assert code == 0
        assert "1 of 2 labels are ids that are not stored" in err
        questions.write_text('{"question": "river", "labels": ["gone"]}\n')
        code, out, err = run("eval", tmp_path / "lib", questions, "--mode", "bm25")
        assert (code, out) == (1, "")
        assert "none of the 1 labels" in err


class TestFolders:
    def test_an_empty_file_is_named_and_the_others_are_added(self, tmp_path, run):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "a.md").write_text("")
        (tmp_path / "docs" / "b.md").write_text("text")
        code, out, err = run("add", tmp_path / "lib", tmp_path / "docs", "--no-embed", "--json")
        assert code == 0
        assert json.loads(out)["documents_added"] == 1
        assert json.loads(out)["documents_skipped"] == 1
        assert err == f"skipped: {tmp_path / 'docs' / 'a.md'}: the file is empty\n"

    def test_hints_are_options(self, tmp_path, run):
        (tmp_path / "a.jsonl").write_text('{"text": " "}\n')
        code, _, err = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed")
        assert code == 1
        assert "--on-error skip" in err
        assert "on_error=" not in err
        (tmp_path / "b.txt").write_text("x" * 2_000)
        code, _, err = run("add", tmp_path / "lib", tmp_path / "b.txt", "--no-embed", "--max-document-bytes", "1000")
        assert code == 1
        assert "longer than 1,000 bytes" in err
        assert "--max-document-bytes" in err

    def test_a_folder_is_stored_once_however_it_is_named(self, tmp_path, run, monkeypatch):
        docs = tmp_path / "docs"
        docs.mkdir()
        (docs / "a.md").write_text("text")
        monkeypatch.chdir(tmp_path)
        run("add", "lib", "docs", "--no-embed")
        monkeypatch.chdir(docs)
        for uri, source in (("../lib", "."), (str(tmp_path / "lib"), str(docs)), ((tmp_path / "lib").as_uri(), "a.md")):
            code, out, _ = run("add", uri, source, "--no-embed", "--json")
            assert code == 0
            assert json.loads(out)["documents_unchanged"] == 1
        with dpr_lance.connect(tmp_path / "lib") as retriever:
            assert [passage.document_id for passage in retriever.passages()] == ["docs/a.md"]

    def test_a_beir_folder_is_its_corpus(self, tmp_path, run):
        folder = tmp_path / "set"
        (folder / "qrels").mkdir(parents=True)
        (folder / "corpus.jsonl").write_text('{"_id": "c", "text": "a river"}\n')
        (folder / "queries.jsonl").write_text('{"_id": "q", "text": "river"}\n')
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\tc\t1\n")
        code, out, err = run("add", tmp_path / "lib", folder, "--no-embed", "--json")
        assert (code, json.loads(out)["documents_added"]) == (0, 1)
        assert "is a BEIR folder: its corpus is added" in err

    def test_a_record_of_thousands_of_fields_is_refused(self, tmp_path, run):
        record = {"text": "x", **{f"key{number}": number for number in range(20_000)}}
        (tmp_path / "a.jsonl").write_text(json.dumps(record) + '\n{"text": "good"}\n')
        code, _, err = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed")
        assert code == 1
        assert "a.jsonl:1: 20,001 fields" in err
        code, out, _ = run("add", tmp_path / "lib", tmp_path / "a.jsonl", "--no-embed", "--on-error", "skip", "--json")
        assert (code, json.loads(out)["documents_skipped"], json.loads(out)["documents_added"]) == (0, 1, 1)
