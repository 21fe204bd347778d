"""Tables and bundles that an earlier release wrote are opened, searched, changed and checked as the present ones."""

import json
import tarfile
from pathlib import Path

import lancedb
import numpy as np
import pytest

import dpr_lance
from dpr_lance import EncoderMismatchError, HashEncoder, load_encoder

ARCHIVE = Path(__file__).parent.parent / "data" / "0.1.0.tar.gz"
TABLES = {"passages": 16, "changed": 8}
"""The tables, and the dimension of the encoder of each."""


@pytest.fixture
def old(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def answers(old):
    return json.loads((old / "answers.json").read_text())


def opened(old, table="passages"):
    return dpr_lance.connect(old / "table", encoder=HashEncoder(dimension=TABLES[table]), table=table)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("resident_bytes", [0, 1 << 20])
def test_every_mode_finds_what_it_found_then(old, answers, table, resident_bytes):
    encoder = HashEncoder(dimension=TABLES[table])
    with dpr_lance.connect(old / "table", encoder=encoder, table=table, resident_bytes=resident_bytes) as retriever:
        for mode, expected in answers[table].items():
            for hits, then in zip(retriever.search(answers["asked"], 5, mode=mode), expected, strict=True):
                assert hits.mode == mode
                assert [hit.id for hit in hits] == [name for name, *_ in then]
                for hit, (_, *scores) in zip(hits, then, strict=True):
                    now = [hit.score, hit.dense_score, hit.bm25_score]
                    assert now == [None if score is None else pytest.approx(score, abs=1e-5) for score in scores]


def test_passages_metadata_and_calibration_are_read_as_they_were(old, answers):
    with opened(old) as retriever:
        stored = sorted(([p.id, p.title, p.text, dict(p.metadata)] for p in retriever.passages()), key=lambda p: p[0])
        assert stored == answers["stored"]
        info = retriever.info()
        assert info.passages == len(stored) == info.embedded
        assert info.calibration.hybrid_weight == answers["calibration"]["hybrid_weight"]
        found = retriever.search("summit", 3, where="year > 1995 AND kind = 'summit'")
        assert {hit.metadata["kind"] for hit in found} == {"summit"}


def test_the_same_documents_change_nothing(old, answers):
    documents = answers["documents"]
    with opened(old) as retriever:
        before = lancedb.connect(old / "table").open_table("passages").version
        first, deleted = documents[0], [one for one in documents if one["id"] == "tatras-river"]
        same = [one for one in documents if one is not first and one not in deleted]
        report = retriever.add(same)
        assert (report.documents_unchanged, report.documents_added, report.passages_embedded) == (len(same), 0, 0)
        assert lancedb.connect(old / "table").open_table("passages").version == before
        report = retriever.add([first, *deleted])
        assert (report.documents_replaced, report.documents_added) == (1, 1)
        assert retriever.get("alps-summit")[0].text == first["text"]


def test_a_wider_value_and_a_new_field_find_their_columns(old):
    with opened(old) as retriever:
        retriever.add([{"id": "new", "text": "A summit of another kind", "year": 2000.5, "source": "by hand"}])
        metadata = retriever.get("new")[0].metadata
        assert (metadata["year"], metadata["source"]) == (2000.5, "by hand")
        assert retriever.get("andes-river")[0].metadata["source"] is None


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("rebuild", [False, True])
def test_it_is_maintained_and_found_whole(old, answers, table, rebuild):
    with opened(old, table) as retriever:
        assert not [finding for finding in retriever.check().findings if finding.level == "error"]
        retriever.add([{"id": "new", "text": "Another summit, which was added since"}])
        retriever.optimize(rebuild=rebuild, filter_columns=["year"])
        assert retriever.search("another summit added since", 1, mode="bm25")[0].id == "new#0"
        assert retriever.search(answers["asked"][0], 2)[0].id == "alps-summit#0"
        assert not retriever.check().findings


def test_it_refuses_other_encoders_and_takes_a_new_one(old):
    with (
        dpr_lance.connect(old / "table", encoder=HashEncoder(dimension=32)) as other,
        pytest.raises(EncoderMismatchError),
    ):
        other.add([{"text": "one"}])
    with opened(old) as retriever:
        report = retriever.reembed(HashEncoder(dimension=32))
        assert report.passages_embedded == len(retriever)
        assert len(retriever.search("summit", 5, mode="dense")) == 5


def test_a_bundle_makes_the_vectors_that_it_made(old, answers):
    encoder = load_encoder(old / "bundle")
    assert (encoder.card.name, encoder.card.title_style, encoder.card.question_prefix) == ("tiny", "pair", "q ")
    questions, passages = ["abc", "the river"], [("", "abc"), ("alps", "the river")]
    np.testing.assert_allclose(encoder.encode_questions(questions), answers["questions"], atol=1e-6)
    np.testing.assert_allclose(encoder.encode_passages(passages), answers["vectors"], atol=1e-6)
