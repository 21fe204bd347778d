"""The bundle format: what is written is what is read; whatever is damaged is named."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from dpr_lance.encoders.bundle import CARD as CARD_FILE
from dpr_lance.encoders.bundle import MANIFEST, fingerprint, open_bundle, write_bundle
from dpr_lance.encoders.card import EncoderCard
from dpr_lance.encoders.loading import load_encoder
from dpr_lance.errors import EncoderError, InvalidInputError
from tests.encoders.tiny_bundle import CARD as TINY
from tests.encoders.tiny_bundle import made, rewritten

CARD = EncoderCard(name="tiny ü", dimension=3, fingerprint="0123", normalise=True, question_prefix="query: ")


@pytest.fixture
def files(tmp_path):
    """Files as an exporter leaves them; a bundle does not look into them."""
    source = tmp_path / "source"
    source.mkdir()
    contents = {
        "tokenizer.json": b"{}",
        "question.onnx": b"q" * 1000,
        "passage.onnx": b"p" * 2000,
        "NOTICE": b"licence",
    }
    for name, content in contents.items():
        (source / name).write_bytes(content)
    return {name: source / name for name in contents}


def test_what_is_written_is_what_is_opened(tmp_path, files):
    written = write_bundle(tmp_path / "new" / "bundle", CARD, files, precision="fp16")
    opened = open_bundle(str(tmp_path / "new" / "bundle"))
    assert opened == written
    assert opened.card == CARD
    assert opened.precision == "fp16"
    assert opened.size == sum(path.stat().st_size for path in opened.folder.iterdir() if path.name != MANIFEST)
    assert opened.graph("question") == "question.onnx"
    assert opened.graph("passage") == "passage.onnx"
    assert not opened.shared
    for name, path in files.items():
        assert opened.verified(name).read_bytes() == path.read_bytes()


def test_one_graph_can_serve_both_sides(tmp_path, files):
    shared = {"tokenizer.json": files["tokenizer.json"], "encoder.onnx": files["question.onnx"]}
    bundle = write_bundle(tmp_path / "bundle", CARD, shared, precision="int8")
    assert bundle.shared
    assert bundle.graph("question") == bundle.graph("passage") == "encoder.onnx"


def test_nothing_is_left_beside_a_written_or_replaced_bundle(tmp_path, files):
    write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    write_bundle(tmp_path / "bundle", replace(CARD, fingerprint="4567"), files, precision="fp32", replace=True)
    assert open_bundle(tmp_path / "bundle").card.fingerprint == "4567"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_writers_at_one_time_leave_one_whole_bundle(tmp_path, files):
    """Each replaces what the others have just written, and a reader finds a whole bundle or none."""
    cards = [replace(CARD, fingerprint=f"{number:04}") for number in range(4)]

    def write(card):
        for _ in range(25):
            write_bundle(tmp_path / "bundle", card, files, precision="fp32", replace=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, cards))
    assert open_bundle(tmp_path / "bundle").card in cards
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_of_writers_that_may_not_replace_one_wins(tmp_path, files):
    """The others learn that the place is taken, whenever they find out."""

    def write(number):
        try:
            return write_bundle(tmp_path / "bundle", replace(CARD, fingerprint=str(number)), files, precision="fp32")
        except InvalidInputError as error:
            assert "bundle exists: choose another place" in str(error)  # noqa: PT017 - the others' outcome
            return None

    with ThreadPoolExecutor(8) as pool:
        (won,) = [bundle for bundle in pool.map(write, range(8)) if bundle is not None]
    assert open_bundle(tmp_path / "bundle") == won
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_a_write_that_fails_leaves_the_old_bundle_and_no_trace(tmp_path, files):
    write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    gone = files | {"passage.onnx": tmp_path / "nowhere.onnx"}
    with pytest.raises(FileNotFoundError):
        write_bundle(tmp_path / "bundle", replace(CARD, fingerprint="4567"), gone, precision="fp32", replace=True)
    assert open_bundle(tmp_path / "bundle").card == CARD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "source"]


def test_two_writes_are_byte_for_byte_the_same(tmp_path, files):
    first = write_bundle(tmp_path / "first", CARD, files, precision="fp32")
    second = write_bundle(tmp_path / "second", CARD, dict(reversed(files.items())), precision="fp32")
    for path in first.folder.iterdir():
        assert path.read_bytes() == (second.folder / path.name).read_bytes()


@pytest.mark.parametrize("name", ["tokenizer.json", "question.onnx", "encoder.json", "NOTICE"])
def test_a_missing_file_is_named(tmp_path, files, name):
    bundle = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    (bundle.folder / name).unlink()
    with pytest.raises(EncoderError, match=rf"{name} is missing.*dpr-lance export"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "question.onnx", "encoder.json"])
def test_a_file_of_another_size_is_named_at_opening(tmp_path, files, name):
    bundle = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    path = bundle.folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EncoderError, match=rf"{name} is damaged .*bytes instead of.*dpr-lance export"):
        open_bundle(bundle.folder)


def test_changed_contents_of_the_same_size_are_named_when_used(tmp_path, files):
    bundle = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    (bundle.folder / "question.onnx").write_bytes(b"q" * 999 + b"x")
    opened = open_bundle(bundle.folder)
    assert opened.verified("passage.onnx") == bundle.folder / "passage.onnx"
    with pytest.raises(EncoderError, match=r"question.onnx is damaged.*dpr-lance export"):
        opened.verified("question.onnx")


def test_a_folder_without_manifest_was_never_completed(tmp_path, files):
    bundle = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    (bundle.folder / MANIFEST).unlink()
    with pytest.raises(EncoderError, match=r"bundle is not an encoder bundle: manifest.json is missing"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"format": 99}, "bundle format 99 is not known.*upgrade"),
        (lambda values: {"files": {}}, "no format version"),
        (lambda values: [values], "no format version"),
        (lambda values: values | {"precision": "int3"}, "precision 'int3'"),
        (lambda values: values | {"files": {"tokenizer.json": {"size": 2}}}, "sha256"),
        (lambda values: values | {"files": {}}, "the graphs are"),
        (lambda values: values | {"files": values["files"] | {"../x": {"size": 1, "sha256": ""}}}, "plain file name"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path, files, change, message):
    manifest = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32").folder / MANIFEST
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    with pytest.raises(EncoderError, match=message):
        open_bundle(manifest.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_manifest_that_is_not_json_is_refused(tmp_path, files, content):
    manifest = write_bundle(tmp_path / "bundle", CARD, files, precision="fp32").folder / MANIFEST
    manifest.write_bytes(content)
    with pytest.raises(EncoderError, match=r"manifest.json is damaged.*dpr-lance export"):
        open_bundle(manifest.parent)


def test_a_wrong_set_of_files_is_refused(tmp_path, files):
    for changed, message in [
        ({"tokenizer.json": files["tokenizer.json"]}, "the graphs are"),
        ({"question.onnx": files["question.onnx"], "passage.onnx": files["passage.onnx"]}, "tokenizer.json is missing"),
        (files | {"encoder.onnx": files["question.onnx"]}, "the graphs are"),
        (files | {"manifest.json": files["tokenizer.json"]}, "manifest.json is written by"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            write_bundle(tmp_path / "bundle", CARD, changed, precision="fp32")
    with pytest.raises(InvalidInputError, match="precision='int3' is not one of"):
        write_bundle(tmp_path / "bundle", CARD, files, precision="int3")
    assert not (tmp_path / "bundle").exists()


def test_what_is_not_a_bundle_is_never_overwritten(tmp_path, files):
    write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    with pytest.raises(InvalidInputError, match="exists: choose another place"):
        write_bundle(tmp_path / "bundle", CARD, files, precision="fp32")
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("x")
    for place in ("mine", "file"):
        with pytest.raises(InvalidInputError, match="is not an encoder bundle"):
            write_bundle(tmp_path / place, CARD, files, precision="fp32", replace=True)


def test_fingerprints_stand_for_contents_and_not_for_names(tmp_path, files):
    same = tmp_path / "other name"
    same.write_bytes(files["question.onnx"].read_bytes())
    first = fingerprint([files["question.onnx"], files["tokenizer.json"]])
    assert first == fingerprint([same, files["tokenizer.json"]])
    assert len(first) == 16
    assert first != fingerprint([files["passage.onnx"], files["tokenizer.json"]])
    assert first != fingerprint([files["question.onnx"], files["tokenizer.json"]], further="other")


def test_a_bundle_without_a_fingerprint_is_refused(tmp_path):
    folder = made(tmp_path)
    rewritten(folder, CARD_FILE, json.dumps(json.loads(TINY.to_json()) | {"fingerprint": " "}).encode())
    with pytest.raises(EncoderError, match="the fingerprint is blank"):
        open_bundle(folder)


def test_a_changed_card_of_the_same_size_is_found_when_the_bundle_is_opened(tmp_path):
    path = made(tmp_path) / CARD_FILE
    path.write_text(path.read_text().replace('"dimension": 8', '"dimension": 9'))
    with pytest.raises(EncoderError, match=r"encoder\.json is damaged"):
        open_bundle(path.parent)


@pytest.mark.parametrize("size", ["12", None, 1.5, True, -1])
@pytest.mark.parametrize("sha256", [None, "", 5, "z" * 64])
def test_types_in_a_manifest_are_checked(tmp_path, size, sha256):
    manifest = made(tmp_path) / MANIFEST
    for entry in ({"size": size}, {"sha256": sha256}):
        values = json.loads(manifest.read_text())
        values["files"]["tokenizer.json"] |= entry
        (tmp_path / "bundle" / MANIFEST).write_text(json.dumps(values))
        with pytest.raises(EncoderError, match=r"manifest\.json is damaged|tokenizer\.json is damaged"):
            open_bundle(manifest.parent)
        values["files"]["tokenizer.json"] = json.loads(manifest.read_text())["files"]["encoder.onnx"]


def test_files_beside_those_of_the_manifest_are_not_read(tmp_path):
    folder = made(tmp_path)
    before = load_encoder(folder).encode_questions(["a b"])
    for name in ("question.onnx", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_text("nonsense")
    np.testing.assert_array_equal(load_encoder(folder).encode_questions(["a b"]), before)
