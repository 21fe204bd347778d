"""The reader's bundle: what is written is what is read; whatever is damaged is named."""

import json

import pytest

from dpr_lance.encoders.bundle import MANIFEST, open_bundle
from dpr_lance.encoders.bundle_folder import kind_of_bundle
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED
from dpr_lance.errors import EncoderError, InvalidInputError, ReaderError
from dpr_lance.reader.bundle import open_reader_bundle, write_reader_bundle
from tests.encoders.tiny_bundle import rewritten
from tests.reader.tiny_reader import CARD, tiny_reader

FILES = ["reader.json", "reader.onnx", "tokenizer.json"]


def test_what_is_written_is_what_is_opened(tmp_path):
    folder = tiny_reader(tmp_path)
    bundle = open_reader_bundle(str(folder))
    assert bundle.card == CARD
    assert bundle.precision == "fp32"
    assert [file.name for file in bundle.files] == FILES
    assert bundle.size == sum((folder / name).stat().st_size for name in FILES)
    assert bundle.verified("reader.onnx") == folder / "reader.onnx"


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_cut_file_is_named(tmp_path, name):
    folder = tiny_reader(tmp_path)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(ReaderError, match=rf"{name} is damaged .*bytes instead of.*dpr-lance export"):
        open_reader_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(ReaderError, match=rf"{name} is missing.*dpr-lance export"):
        open_reader_bundle(folder)


def test_a_changed_card_is_found_when_the_bundle_is_opened(tmp_path):
    path = tiny_reader(tmp_path) / "reader.json"
    path.write_text(path.read_text().replace('"stride": 8', '"stride": 9'))
    with pytest.raises(ReaderError, match=r"reader\.json is damaged"):
        open_reader_bundle(path.parent)


def test_a_card_of_a_newer_format_says_so(tmp_path):
    folder = tiny_reader(tmp_path)
    card = json.loads((folder / "reader.json").read_text()) | {"format": 2}
    rewritten(folder, "reader.json", json.dumps(card).encode())
    with pytest.raises(ReaderError, match=r"reader\.json: reader card format 2 is not known here.*upgrade dpr-lance"):
        open_reader_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values | {"format": 99}, "bundle format 99 is not known.*upgrade"),
        (lambda values: [values], "no format version"),
        (lambda values: values | {"precision": "int3"}, "precision 'int3'"),
        (lambda values: values | {"files": {}}, r"the graphs are \[\]; a bundle has reader.onnx"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(tmp_path, change, message):
    manifest = tiny_reader(tmp_path) / MANIFEST
    manifest.write_text(json.dumps(change(json.loads(manifest.read_text()))))
    with pytest.raises(ReaderError, match=message):
        open_reader_bundle(manifest.parent)


def test_a_folder_without_manifest_was_never_completed(tmp_path):
    folder = tiny_reader(tmp_path)
    (folder / MANIFEST).unlink()
    with pytest.raises(ReaderError, match=r"is not a reader bundle: manifest\.json is missing"):
        open_reader_bundle(folder)
    assert kind_of_bundle(folder) is None


def test_bundles_of_another_kind_are_told_apart(tmp_path):
    folder = tiny_reader(tmp_path)
    with pytest.raises(EncoderError, match="is a reader bundle, not an encoder bundle"):
        open_bundle(folder)
    with pytest.raises(ReaderError, match="is an encoder bundle, not a reader bundle"):
        open_reader_bundle(PACKAGED / DEFAULT_ENCODER)
    assert kind_of_bundle(folder) == "reader.json"
    assert kind_of_bundle(PACKAGED / DEFAULT_ENCODER) == "encoder.json"


def test_what_is_not_a_bundle_is_never_overwritten(tmp_path):
    folder = tiny_reader(tmp_path)
    files = {name: folder / name for name in ("reader.onnx", "tokenizer.json")}
    with pytest.raises(InvalidInputError, match="exists: choose another place"):
        write_reader_bundle(folder, CARD, files, precision="fp32")
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidInputError, match="exists and is not a reader bundle"):
        write_reader_bundle(tmp_path / "mine", CARD, files, precision="fp32", replace=True)
    with pytest.raises(InvalidInputError, match="the graphs are"):
        write_reader_bundle(tmp_path / "new", CARD, {"tokenizer.json": folder / "tokenizer.json"}, precision="fp32")
