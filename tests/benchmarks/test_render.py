"""Tables and sentences from results: every number in its place, missing parts left out, peers that are ahead named."""

import pytest

from benchmarks import calibration, contenders, end_to_end
from benchmarks.render import headlines, tables

ORIGIN = {
    "commit": "abc",
    "dirty": False,
    "machine": "2 cores",
    "versions": "Python 3",
    "date": "2026-11-28",
    "load": 1,
}


def part(**values):
    return {"origin": ORIGIN, **values}


def quality_part(reference=True, **values):
    rows = ["bm25", "bm25s", "dense", "hybrid", *(["fp32"] if reference else [])]
    accuracy = {row: [[10.0 * (at + 1), 0.0, 90.0] for at in range(4)] for row in rows}
    return part(split="dev", passages=3_000, questions=1_000, accuracy=accuracy | values, gain=[0.5, -0.1, 1.0])


def end_to_end_part(**ratios):
    """A result in which every contender is like ours but for these ratios to Chroma."""
    installed = {"packages": 3, "megabytes": 10.0, "weights_megabytes": 0.0, "versions": ["chromadb 1.5.9"]}
    ingest = {"seconds": 2.0, "cpu_seconds": 4.0, "bytes": 1e6, "peak_mib": 100.0}
    found = {"first": 1.0, "ingest": ingest, "milliseconds": [2.0, 3.0], "search_peak_mib": 50.0}
    found |= {"accuracy": [[33.3, 0.0, 100.0]] * 3}
    names = ("ingest", "ingest by CPU time", "first answer", "p50", "disk", "peak memory of ingesting")
    equal = {name: [1.0, 1.0, 1.0] for name in names}
    return part(
        passages=100,
        questions=3,
        contenders={name: found | {"installed": dict(installed)} for name in end_to_end.CONTENDERS},
        ratios={
            name: equal | (ratios if name == "chroma" else {}) for name in end_to_end.CONTENDERS if name != "dpr_lance"
        },
    )


def shown(case, parts):
    return "\n\n".join(tables.TABLES[case](parts))


def test_quality_has_a_row_a_set_and_a_gap_without_the_reference():
    text = shown("quality", {"squad": quality_part(reference=False), "nq-gold": quality_part()})
    first, second = text.splitlines()[2:4]
    cells = "10.0 / 20.0 / 30.0 / 40.0"
    assert first.startswith(f"| nq-gold dev: 1,000 questions, 3,000 passages | {cells} | {cells} | {cells} | {cells} |")
    assert f"| {cells} |  | {cells} | +0.5 (-0.1 to +1.0) | abc |" in second


def test_calibration_has_a_column_a_way():
    rows = [
        {"way": way, "start": calibration.OUT_OF_SCALE, "weight": 60.0, "mode": "hybrid", "questions": 9}
        | {f"top{k}": [1.0, 0.0, 2.0] for k in calibration.K}
        for way in ("labelled", "texts", "none")
    ]
    text = shown("calibration", {"squad": part(split="dev", rows=rows)})
    cell = "60: +1.0 (+0.0 to +2.0), +1.0"
    assert f"| squad, 9 questions | 1.1 | {cell} | {cell} | {cell} |" in text


def test_encode_shows_the_parts_that_there_are():
    rates = {name: [1.0, 2.0, 3.0] for name in contenders.NAMES}
    times = {name: [4.0, 5.0] for name in contenders.NAMES}
    compared = {"int8 / sentence-transformers": {"passages/s": [2.0, 3.0, 4.0], "question p50": [0.1, 0.2, 0.3]}}
    speed = part(passages_per_second=rates, question_milliseconds=times, ratios=compared)
    text = shown("encode", {"speed": speed})
    assert "| dpr_lance int8 | 2 (1 to 3) | 4.0 / 5.0 |" in text
    assert "| int8 / sentence-transformers | 3.00 (2.00 to 4.00) | 0.20 (0.10 to 0.30) |" in text
    both = shown("encode", {"speed": speed, "one-thread": speed})
    assert "| dpr_lance int8 | 2 (1 to 3) | 2 (1 to 3) | 4.0 / 5.0 | 4.0 / 5.0 |" in both
    parity = {"dpr_lance int8": {"max_abs_difference": 0.015, "min_cosine": 0.99, "top20_overlap": 0.95}}
    assert "least cosine 0.9900, 95.0 %" in shown("encode", {"parity": part(passages=2, questions=1, encoders=parity)})


def test_end_to_end_says_where_a_peer_is_ahead():
    text = shown("end-to-end", {"all": end_to_end_part(ingest=[0.5, 0.5, 0.5], p50=[1.0, 2.0, 3.0])})
    assert "ratio of ours to it: Chroma (dense): ingest 0.50, p50 2.00." in text
    assert "| Chroma (dense) | 10 MB, 3 packages | 1.00 | 50 / 25 | 2.0 / 3.0 | 1.0 | 100 / 50 |" in text
    assert "ratio of ours to it: nowhere in this table." in shown("end-to-end", {"all": end_to_end_part()})


def test_weights_that_are_downloaded_as_well_count_as_installed():
    found = end_to_end_part()
    found["contenders"]["chroma"]["installed"] |= {"megabytes": 4.0, "weights_megabytes": 5.0}
    text = shown("end-to-end", {"all": found})
    assert "| Chroma (dense) | 4 + 5 MB, 3 packages |" in text
    assert "Chroma (dense): install size 1.11." in text


def test_scale_marks_an_index_that_is_no_longer_the_default():
    found = {"passages": 10_000, "add_seconds": 1.0, "optimize_seconds": 1.0, "bytes": 2e6, "peak_mib": 3.0}
    found |= {"recall@20": 0.981, "searched": "IVF-SQ, 5 of 10", "adding_cpu_seconds": 0.4}
    found |= {"milliseconds": {mode: [4.0, 5.0] for mode in ("dense", "bm25", "hybrid")}}
    found |= {"questions_per_second": {mode: [1.0, 2.0, 3.0] for mode in ("dense", "bm25")}}
    old = {"origin": ORIGIN | {"dirty": True, "note": "IVF-SQ, before 0.2"}, **found}
    text = shown("scale", {"10000": part(**found), "9000": old | {"passages": 9_000}})
    assert text.splitlines()[2].startswith("| 9,000 | 1 + 1 | 2 | 3 | 0.981 (IVF-SQ, 5 of 10) | 4.0 / 4.0 / 4.0 |")
    assert text.splitlines()[2].endswith("| 2 / 2 | 0.4 | abc*, IVF-SQ, before 0.2 |")
    assert text.splitlines()[3].endswith("| 0.4 | abc |")


def test_the_papers_form_has_our_rows_and_theirs():
    text = headlines.papers_form({"squad": quality_part()})
    assert "| BM25 | 30.0 / 40.0 |" in text
    assert "| BM25 + DPR | 76.6 / 83.8 | 79.8 / 84.5 | 71.0 / 80.5 | 85.2 / 92.7 | 71.5 / 81.3 |" in text


def test_the_short_table():
    text = headlines.used({"all": end_to_end_part()})
    assert "| dpr_lance (hybrid) | 10 MB | 1.0 s | 50 | 2.0 ms | 33.3 / 33.3 / 33.3 |" in text


@pytest.mark.parametrize("block", [headlines.accuracy, headlines.papers_form, headlines.used, headlines.gained])
def test_a_block_without_results_is_empty(block):
    assert block({}) == ""


def test_where_it_is_behind_names_what_grows_peers_that_are_ahead_and_what_int8_costs():
    ours = {"milliseconds": [4.0, 9.0], "questions_per_second": 10.0}
    peer = {"milliseconds": [0.5, 9.0], "questions_per_second": 1_000.0}
    better = [[0.0, 0.0, 0.0]] * 2 + [[80.0, 0.0, 90.0]] * 2
    sides = {"small": {"peak_mib": 10, "passages": 20_000}, "large": {"peak_mib": 17, "passages": 200_000}}
    text = headlines.behind(
        {
            "ingest": {"memory": part(**sides)},
            "end-to-end": {},
            "ann": {"1000": part(vectors=1_000, contenders={"dpr_lance": ours, "faiss-ivfpq": peer})},
            "quality": {"squad": quality_part(fp32=better), "medquad": quality_part(reference=False)},
        }
    )
    assert text.splitlines() == [
        "- Peak memory of a process that adds, bounded as the command line bounds it, grows with the table: "
        "10 MiB at 20,000 passages, 17 MiB at 200,000 passages.",
        "- Dense search, against FAISS with its vectors in memory: at 1,000 vectors 8 times as long for a question, "
        "0.01 of its rate in a batch.",
        "- int8 weights cost up to 50.0 points of top-20 accuracy (squad).",
    ]
