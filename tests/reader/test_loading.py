"""Readers by name: bundle folders, checkpoints, and what is neither."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dpr_lance.encoders.loading import DEFAULT_ENCODER
from dpr_lance.encoders.loading import PACKAGED as PACKAGED_ENCODERS
from dpr_lance.errors import InvalidInputError, ReaderError
from dpr_lance.reader.loading import DEFAULT_READER, PACKAGED, load_reader, packaged_readers
from tests.reader.tiny_reader import CARD, tiny_reader


def test_a_bundle_folder_is_loaded_by_path_or_string(tmp_path):
    folder = tiny_reader(tmp_path)
    for source in (folder, str(folder)):
        assert load_reader(source, precision="fp32", threads=1).card == CARD


def test_a_bundle_has_the_precision_it_has(tmp_path):
    folder = tiny_reader(tmp_path, card=replace(CARD, source="an-organisation/a-reader"))
    with pytest.raises(ReaderError, match=r"holds fp32 weights, not 'int8'.*an-organisation/a-reader"):
        load_reader(folder, precision="int8")
    with pytest.raises(InvalidInputError, match="precision='int3' is not one of"):
        load_reader(folder, precision="int3")


def test_a_half_written_bundle_is_not_taken_for_a_checkpoint(tmp_path):
    folder = tiny_reader(tmp_path)
    (folder / "manifest.json").unlink()
    with pytest.raises(ReaderError, match=r"manifest.json is missing"):
        load_reader(folder)


def test_what_is_no_reader_is_refused(tmp_path):
    with pytest.raises(ReaderError, match=r"nowhere does not exist; name a bundle folder, a checkpoint"):
        load_reader(tmp_path / "nowhere")
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(ReaderError, match="single ONNX file"):
        load_reader(tmp_path / "x.onnx")
    with pytest.raises(ReaderError, match="is an encoder bundle, not a reader bundle"):
        load_reader(PACKAGED_ENCODERS / DEFAULT_ENCODER)
    for source in ("", None, 3, ("a", "b")):
        with pytest.raises(InvalidInputError, match=r"source=.*give a packaged name, a bundle folder, or a checkpoint"):
            load_reader(source)


def test_the_default_reader_is_packaged():
    assert packaged_readers() == [DEFAULT_READER]
    assert load_reader(DEFAULT_READER).bundle.folder == PACKAGED / DEFAULT_READER


def test_packaged_readers_are_small_and_name_their_source():
    for name in packaged_readers():
        bundle = load_reader(name).bundle
        assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= 25e6
        assert bundle.verified("NOTICE").read_text().strip()
        assert bundle.card.licence
    folders = (PACKAGED, PACKAGED_ENCODERS)
    assert sum(path.stat().st_size for folder in folders for path in folder.glob("*/*")) <= 60e6


def printed(program: str, argument: Path) -> str:
    """What a fresh process prints."""
    command = [sys.executable, "-c", program, str(argument)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_checkpoint_needs_the_train_extra(tmp_path):
    """In a process that has no trainer."""
    (tmp_path / "config.json").write_text("{}")
    program = """
import sys
sys.modules["dpr_lance.trainer.bundles.export_reader"] = None
from dpr_lance import MissingExtraError, load_reader
try:
    load_reader(sys.argv[1])
except MissingExtraError as error:
    print(error)
"""
    message = printed(program, tmp_path)
    assert "is a checkpoint, and importing one needs packages" in message
    assert "dpr-lance[train]" in message


def test_reading_loads_neither_torch_nor_the_trainer(tmp_path):
    program = """
import json, sys
from dpr_lance import load_reader
reader = load_reader(sys.argv[1])
before = sorted({name.split(".")[0] for name in sys.modules if "." in name})
reader.read("a", [("", "a b")])
after = sorted({name.split(".")[0] for name in sys.modules if "." in name})
print(json.dumps([before, after]))
"""
    before, after = map(set, json.loads(printed(program, tiny_reader(tmp_path))))
    assert before.isdisjoint({"onnxruntime", "tokenizers", "torch", "lancedb"})
    assert {"onnxruntime", "tokenizers"} <= after
    assert after.isdisjoint({"torch", "transformers", "onnx", "lancedb"})
