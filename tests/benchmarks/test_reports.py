"""What the benchmarks compute with: ranks, intervals, corpora cut smaller, tables put in their place."""

from __future__ import annotations

import argparse
import gzip
import json
import re

import numpy as np
import pytest

from benchmarks import __main__ as runner
from benchmarks import data, end_to_end, headlines, machine, made_vectors, paper, quality, results, scale, shown
from benchmarks.__main__ import CASES, LONG, QUICK
from benchmarks.accuracy import Spread, bootstrap, first_rank, hits_within, mean_of_sets


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """A set of three passages and two labelled questions in the common form."""
    place = tmp_path / "tiny"
    (place / "qrels").mkdir(parents=True)
    passages = [{"_id": name, "title": "", "text": f"text of {name}"} for name in "abc"]
    questions = [{"_id": f"q{number}", "text": f"question {number}", "answers": []} for number in range(3)]
    for name, records in (("corpus", passages), ("queries", questions)):
        with gzip.open(place / f"{name}.jsonl.gz", "wt", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record) + "\n" for record in records)
    labels = "query-id\tcorpus-id\tscore\nq2\tc\t1\nq0\tb\t1\nq0\tc\t1\nq1\ta\t0\n"
    (place / "qrels" / "dev.tsv").write_text(labels, encoding="utf-8")
    monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
    return tmp_path


def test_ranks_count_from_one_and_a_miss_is_never_a_hit():
    assert first_rank(["x", "a", "b"], {"b", "a"}) == 2
    assert first_rank(["x"], {"a"}) == 0
    assert hits_within([1, 5, 6, 0], 5).tolist() == [100, 100, 0, 0]


def test_the_interval_holds_the_mean_and_narrows_with_more_questions():
    few, many = bootstrap(np.array([0.0, 100.0] * 10)), bootstrap(np.array([0.0, 100.0] * 1000))
    assert few.mean == many.mean == 50
    assert few.low < many.low < 50 < many.high < few.high
    # The normal approximation: 1.96 · 50 / sqrt(2000) = 2.19 points each way.
    assert many.high - many.low == pytest.approx(2 * 2.19, abs=0.3)


def test_the_mean_of_sets_weighs_each_set_alike():
    small, large = np.array([100.0, 0.0, 0.0, 0.0]), np.full(1_000, -1.0)
    found = mean_of_sets([small, large])
    assert found.mean == pytest.approx((25.0 - 1.0) / 2)
    assert found.low == pytest.approx(-0.5)
    assert 12 < found.high < 50
    assert mean_of_sets([large]).low == mean_of_sets([large]).high == pytest.approx(-1.0)


def test_a_spread_is_minimum_median_maximum():
    assert str(Spread.of([3.0, 1.0, 2.0])) == "1.00 / **2.00** / 3.00"


def test_a_set_has_the_questions_with_a_positive_label(sets):
    tiny = data.read("tiny", "dev")
    assert [(question.id, sorted(question.gold)) for question in tiny.questions] == [("q0", ["b", "c"]), ("q2", ["c"])]
    assert tiny.gold_rows == [{1, 2}, {2}]


def test_questions_of_one_set_are_asked_over_the_passages_of_two(sets):
    (sets / "more").mkdir()
    with gzip.open(sets / "more" / "corpus.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.write(json.dumps({"_id": "a", "title": "", "text": "another"}) + "\n")
    both = data.read("tiny+more", "dev")
    assert [passage.id for passage in both.passages] == ["more:a", "tiny:a", "tiny:b", "tiny:c"]
    assert [sorted(question.gold) for question in both.questions] == [["tiny:b", "tiny:c"], ["tiny:c"]]


def test_a_set_without_its_fp32_reference_is_shown_without_that_row():
    ranks = {row: [1, 0, 30] for row in quality.ROWS if row != "fp32"}
    summary = {row: {f"top{k}": {"mean": 1.0, "low": 0.0, "high": 2.0} for k in quality.K} for row in ranks}
    record = {"set": "squad", "split": "dev", "passages": 3, "of": 3, "questions": 3, "ranks": ranks}
    record |= {"bars": quality.compare(ranks), "summary": summary, "details": {"hybrid_weight": 60.0}}
    text = quality.tables([record | {"machine": machine.describe()}])
    assert "| dense int8, dpr_lance | 1.0 (0.0–2.0) |" in text
    assert "fp32" not in text


def test_a_smaller_corpus_keeps_every_gold_passage(sets):
    tiny = data.read("tiny", "dev")
    assert [passage.id for passage in tiny.smaller(1).passages] == ["b", "c"]
    assert [passage.id for passage in tiny.smaller(3).passages] == ["a", "b", "c"]


def test_a_label_without_its_passage_is_named(sets):
    (sets / "tiny" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tzz\t1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="'zz' is labelled, but not in the corpus"):
        data.read("tiny", "test")


def test_missing_data_is_said_with_the_place_and_the_remedy(sets, monkeypatch):
    with pytest.raises(data.MissingDataError, match=r"dev\.tsv is missing"):
        data.read("other", "dev")
    monkeypatch.setenv(data.DATA_VARIABLE, str(sets / "nowhere"))
    with pytest.raises(data.MissingDataError, match=r"nowhere: set DPR_LANCE_DATA"):
        data.read("tiny", "dev")


def test_a_table_replaces_the_one_before_and_leaves_the_rest(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n", encoding="utf-8")
    for _ in range(2):
        results.put_in_readme("one", r"new \1", readme=readme)
    assert readme.read_text(encoding="utf-8") == "a\n<!-- one -->\nnew \\1\n<!-- end of one -->\nb\n"
    with pytest.raises(ValueError, match="<!-- two -->"):
        results.put_in_readme("two", "new", readme=readme)


@pytest.mark.parametrize("forms", [QUICK, LONG])
def test_the_quick_and_the_long_form_name_options_that_there_are(forms):
    for name, chosen in forms.items():
        parser = argparse.ArgumentParser(exit_on_error=False)
        CASES[name].add_options(parser)
        options = parser.parse_args(chosen)
        if hasattr(CASES[name], "PARTS"):
            assert set(options.parts) <= set(CASES[name].PARTS)


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_place_in_the_readme(case):
    text = results.MAIN.readme.read_text(encoding="utf-8")
    assert f"<!-- {case} -->" in text
    assert f"<!-- end of {case} -->" in text


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Both places of results in an empty folder, and one case that keeps the size that it is given."""

    class Case:
        """A case."""

        @staticmethod
        def add_options(parser):
            parser.add_argument("size", type=int)

        @staticmethod
        def run(options):
            results.write("sizes", "", {"size": options.size})
            return {"size": options.size}

        @staticmethod
        def tables(records):
            return f"size {records[0]['size']}"

    for name in ("MAIN", "QUICK"):
        monkeypatch.setattr(results, name, results.Place(tmp_path / name))
        (tmp_path / name).mkdir()
    results.MAIN.readme.write_text("<!-- sizes --><!-- end of sizes -->", encoding="utf-8")
    for page in ("README", "MEASURED"):
        monkeypatch.setattr(headlines, page, tmp_path / "nowhere.md")
    monkeypatch.setattr(runner, "CASES", {"sizes": Case})
    monkeypatch.setattr(runner, "FORMS", {"quick": {"sizes": ["3"]}, "long": {"sizes": ["9000"]}})
    return tmp_path


class TestForms:
    def test_the_quick_form_does_not_replace_a_larger_result(self, places, capsys):
        assert runner.main(["sizes", "500"]) == 0
        assert "size 500" in results.MAIN.readme.read_text(encoding="utf-8")
        assert runner.main([]) == 0
        assert [record["size"] for record in results.read("sizes")] == [500]
        assert "size 500" in results.MAIN.readme.read_text(encoding="utf-8")
        page = results.QUICK.readme.read_text(encoding="utf-8")
        assert "size 3" in page
        assert "| sizes | `3` | 0 |" in page
        assert capsys.readouterr().out.splitlines()[-1] == '{"sizes": {"size": 3}}'

    def test_the_quick_form_is_shown_where_there_is_nothing_larger_until_there_is(self, places):
        runner.main(["quick", "sizes"])
        assert "size 3" in results.MAIN.readme.read_text(encoding="utf-8")
        runner.main(["long"])
        assert "size 9000" in results.MAIN.readme.read_text(encoding="utf-8")
        assert "size 3" in results.QUICK.readme.read_text(encoding="utf-8")

    def test_the_quick_form_drops_what_an_earlier_one_left(self, places):
        with results.within(results.QUICK):
            results.write("sizes", "other-part", {"size": 1})
        runner.main(["quick"])
        with results.within(results.QUICK):
            assert [record["part"] for record in results.read("sizes")] == [""]

    def test_a_form_of_an_unknown_case_is_refused(self, places, capsys):
        with pytest.raises(SystemExit):
            runner.main(["quick", "speed"])
        assert "unknown case 'speed'; known: sizes" in capsys.readouterr().err


def test_the_papers_form_has_our_rows_and_theirs():
    ranks = {"bm25": [1, 0, 30], "dense": [0, 0, 0], "hybrid": [1, 2, 101]}
    table = paper.table([{"set": "squad", "passages": 10, "questions": 3, "ranks": ranks}])
    assert "| BM25 | 33.3 / 66.7 |" in table
    assert "| **BM25 + λ·dense** | 66.7 / 66.7 |" in table
    assert "| BM25 + DPR | 76.6 / 83.8 | 79.8 / 84.5 | 71.0 / 80.5 | 85.2 / 92.7 | 71.5 / 81.3 |" in table


def standing(readme, mark):
    """What stands between the marks."""
    text = readme.read_text(encoding="utf-8")
    return text.split(f"<!-- {mark} -->")[1].split(f"<!-- end of {mark} -->")[0].strip()


class TestPages:
    """`python -m benchmarks tables` mends what fails here."""

    @pytest.mark.parametrize("case", CASES)
    def test_a_table_is_what_the_raw_results_give(self, case):
        found = shown.records(case)
        assert standing(results.MAIN.readme, case) == (CASES[case].tables(found).strip() if found else "")

    def test_the_page_of_the_quick_form_is_what_its_raw_results_give(self):
        assert results.QUICK.readme.read_text(encoding="utf-8") == shown.quick_text(CASES)

    def test_the_readme_quotes_the_raw_results(self):
        blocks = headlines.blocks(shown.records)
        assert set(blocks) == {"accuracy", "paper", "end-to-end", "training", "ratios", "behind"}
        for mark, text in blocks.items():
            assert standing(headlines.page_of(mark), mark) == text.strip()

    def test_the_readme_says_how_large_an_installation_is(self):
        encoders = data.REPOSITORY / "dpr_lance" / "encoders"
        megabytes = sum(path.stat().st_size for path in encoders.rglob("*") if path.is_file()) / 1e6
        (install,) = [record for record in results.read("cold-start") if record["part"] == "install"]
        # The packages beside dpr-lance itself, and it.
        said = re.search(r"(\d+) MB; a base install is (\d+) packages", headlines.README.read_text(encoding="utf-8"))
        assert (int(said[1]), int(said[2])) == (round(megabytes), len(install["packages"]) + 1)


class TestHeadlines:
    def test_what_is_missed_and_where_a_peer_is_ahead_is_said(self):
        speed = {"dense": [1.0], "bm25": [1.0]}
        peer = [{"effort": 100, "recall@20": 1.0, "questions_per_second": [500.0]}]
        of_scale = {"passages": 10_000, "batch": speed, "faiss": {"threads": 1, "searched": peer}}
        memory = {"part": "memory", "ratio": 1.7}
        memory |= {"small": {"peak_mib": 10, "passages": 20_000}, "large": {"peak_mib": 17, "passages": 200_000}}
        ranks = {row: [1, 0] for row in headlines.ROWS}
        found = {
            "ingest": [memory],
            "scale": [of_scale],
            "quality": [{"set": "squad", "ranks": ranks | {"fp32": [1, 2]}}, {"set": "medquad", "ranks": ranks}],
        }
        text = headlines.behind(lambda case: found.get(case, []))
        assert text.splitlines() == [
            "Where it is behind:",
            "",
            "- Peak memory while adding grows with the table: 10 MiB at 20,000 passages, 17 MiB at 200,000 passages.",
            "- Batches that ask for 100 hits, against the rate of FAISS HNSW in memory: 0.002 at 10,000 vectors.",
            "- int8 weights cost up to 50.0 points of top-20 accuracy (squad).",
        ]

    def test_nothing_is_said_of_what_has_not_been_measured(self):
        assert headlines.blocks(lambda case: []) == {}

    def test_a_ratio_is_given_with_its_spread(self):
        seconds = {"sentence-transformers": [4.0, 6.0], "dpr_lance": [1.0, 1.0], "dpr_lance fp32": [8.0, 8.0]}
        train = [{"part": "speed", "batch": 32, "cpu_seconds": seconds}]
        text = headlines.ratios(lambda case: train if case == "train" else [])
        assert "| training pairs per CPU second, batches of 32, bf16 by default | 5.0 (4.0 to 6.0) |" in text
        assert "| training pairs per CPU second, batches of 32, fp32 | 0.62 (0.50 to 0.75) |" in text


class TestMadeVectors:
    def test_the_same_number_makes_the_same(self):
        texts = [document["text"] for document in made_vectors.documents(5, 8)]
        assert texts == [made_vectors.text_of(number) for number in (5, 6, 7)]
        once, again = (made_vectors.MadeEncoder().encode_passages([("", text) for text in texts]) for _ in range(2))
        assert np.array_equal(once, again)
        assert np.allclose(np.linalg.norm(once, axis=1), 1)

    def test_the_true_neighbours_are_those_of_one_large_product(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scale, "_CHUNK", 64)
        encoder = made_vectors.MadeEncoder()
        asked = encoder.encode_questions(made_vectors.questions(5, 300))
        found = scale.exact(encoder, asked, 300, out=tmp_path / "vectors.npy")
        vectors = np.load(tmp_path / "vectors.npy")
        assert np.array_equal(vectors, encoder.vectors(range(300)))
        assert np.array_equal(found, np.argsort(-(asked @ vectors.T), axis=1, kind="stable")[:, :100])
        assert found[:, 0].tolist() == np.linspace(0, 299, 5).astype(int).tolist()


class TestEndToEnd:
    def record(self, **peer):
        """A result in which every contender is like ours but for what is said of Chroma."""
        ingest = {"seconds": 2.0, "cpu_seconds": 4.0, "load": 0.5, "bytes": 1_000_000, "peak_mib": 100.0}
        search = {"first": 1.0, "load": 1.5, "milliseconds": [1.0, 2.0, 3.0], "peak_mib": 50.0}
        measured = {name: {"ingest": [dict(ingest)], "search": [dict(search)]} for name in end_to_end.CONTENDERS}
        measured["chroma"]["ingest"][0] |= {key: value for key, value in peer.items() if key in ingest}
        measured["chroma"]["search"][0] |= {key: value for key, value in peer.items() if key in search}
        packages = {"packages": ["chromadb==1.5.9"], "megabytes": 10.0, "weights_megabytes": 0.0}
        return {
            "passages": 100,
            "questions": 3,
            "measured": measured,
            "ranks": {name: [1, 6, 0] for name in measured},
            "installed": {name: dict(packages) for name in measured},
            "machine": machine.describe(),
        }

    def test_the_table_says_where_a_peer_is_ahead(self):
        text = end_to_end.tables([self.record(first=0.5, seconds=4.0)])
        assert text.endswith("Where a peer is ahead of dpr_lance, as ratio of ours: Chroma (dense): first answer 2.00.")
        assert (
            "| Chroma (dense) | 10 MB, 1 packages | 0.50 s | 25.0 / 25.0 | 2.0 ms / 3.0 ms | 1.0 MB | 100 / 50 MiB |"
            in text
        )
        assert "| Chroma (dense) | 33.3 (0.0–100.0) | 33.3 (0.0–100.0) | 66.7 (0.0–100.0) |" in text
        assert end_to_end.tables([self.record()]).endswith("nowhere in this table.")

    def test_weights_that_are_downloaded_besides_count_as_installed(self):
        record = self.record()
        record["installed"]["chroma"] |= {"megabytes": 4.0, "weights_megabytes": 5.0}
        text = end_to_end.tables([record])
        assert "| Chroma (dense) | 4 + 5 MB, 1 packages |" in text
        assert text.endswith("as ratio of ours: Chroma (dense): install size 1.11.")

    def test_the_short_table(self):
        text = end_to_end.summary([self.record(seconds=4.0)])
        assert "| dpr_lance (hybrid) | 10 MB | 1.0 s | 50 | 2.0 ms | 33.3 / 33.3 / 66.7 |" in text
        assert "| Chroma (dense) | 10 MB | 1.0 s | 25 | 2.0 ms | 33.3 / 33.3 / 66.7 |" in text

    def test_ratios_are_formed_within_a_round(self):
        found = end_to_end.ratios(self.record(milliseconds=[8.0], seconds=4.0))["Chroma (dense)"]
        assert (found["p50"].median, found["ingest"].median, found["disk"].median) == (0.25, 2.0, 1.0)

    def test_the_corpus_has_every_gold_passage_and_the_size_that_is_asked_for(self, tmp_path, monkeypatch):
        for name, split in end_to_end.SETS:
            place = tmp_path / name
            (place / "qrels").mkdir(parents=True)
            corpus = [{"_id": str(number), "title": "", "text": f"{name} {number}"} for number in range(20)]
            queries = [{"_id": f"q{number}", "text": f"question {number}"} for number in range(10)]
            for file, records in (("corpus", corpus), ("queries", queries)):
                with gzip.open(place / f"{file}.jsonl.gz", "wt", encoding="utf-8") as lines:
                    lines.writelines(json.dumps(record) + "\n" for record in records)
            labels = [f"q{number}\t{19 - number}\t1\n" for number in range(10)]
            (place / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(labels))
        monkeypatch.setenv(data.DATA_VARIABLE, str(tmp_path))
        passages, questions = end_to_end.corpus(30, 15)
        assert (len(passages), len(questions)) == (30, 15)
        assert {name.split("/")[0] for name in passages} == {name for name, _ in end_to_end.SETS}
        assert all(gold <= passages.keys() for _, gold in questions)


def test_a_peer_is_asked_for_the_effort_that_reaches_the_recall():
    searched = [
        {"effort": 100, "recall@20": 0.9},
        {"effort": 200, "recall@20": 0.99},
        {"effort": 400, "recall@20": 1.0},
    ]
    assert scale.at_recall(searched)["effort"] == 200
    assert scale.at_recall(searched[:1])["effort"] == 100


def test_the_table_of_scale_names_the_index_that_was_searched():
    effort = {"partitions": 98, "probes": 34}
    assert scale.searched_how({"indexes": ["FTS", "BTree", "IvfSq"], "effort": effort}) == "IVF-SQ, 34 of 98"
    assert scale.searched_how({"indexes": ["FTS"], "effort": {"partitions": None, "probes": None}}) == "exact"


def test_the_table_of_scale_has_the_latency_at_the_recall():
    searched = [{"effort": 100, "recall@20": 0.99, "questions_per_second": [1000.0]}]
    alone = [
        {"effort": effort, "recall@20": recall, "milliseconds": [taken]}
        for effort, recall, taken in ((20, 0.9, 0.1), (50, 0.985, 0.2))
    ]
    record = {
        "passages": 10_000,
        "add_seconds": 1.0,
        "optimize_seconds": 1.0,
        "bytes": 1,
        "peak_mib": 1.0,
        "adding": {"wall": 1, "cpu": 1},
        "indexes": ["IvfPq"],
        "effort": {"partitions": 10, "probes": 5},
        "recall@20": 0.981,
        "milliseconds": {mode: [4.0] for mode in ("dense", "bm25", "hybrid")},
        "batch": {"dense": [10.0], "bm25": [10.0]},
        "faiss": {"threads": 2, "build_seconds": 1, "peak_mib": 1.0, "searched": searched, "alone": alone},
        "machine": machine.describe(),
    }
    text = scale.tables([record])
    assert "| 10,000 | 4.0 / 4.0 at 0.981 | 0.2 / 0.2 at 0.985, efSearch 50 | 20 |" in text
    assert "| 10,000 | 10 at recall@20 0.981 | 1000 at 0.990, built in 1 s, 1 MiB | 0.01 | 5 | 2.0 |" in text
