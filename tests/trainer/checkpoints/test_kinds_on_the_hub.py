"""A Hub name re-ranks as what its repository holds."""

import shutil

import pytest

from dpr_lance.errors import ReaderError
from dpr_lance.reader.late_interaction import LateInteraction
from dpr_lance.reader.late_interaction_loading import load_reranker
from dpr_lance.reader.onnx_reader import Reader
from tests.trainer import late_interaction_made, readers_made


def test_a_hub_name_is_loaded_by_its_kind(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path / "cache"))
    for make, name, kind in (
        (late_interaction_made.colbert, "someone/colbert", LateInteraction),
        (readers_made.cross_encoder, "someone/cross-encoder", Reader),
    ):
        make(tmp_path / name)
        shutil.copytree(tmp_path / name, hub(name, "a" * 40), dirs_exist_ok=True)
        loaded = load_reranker(name)
        assert isinstance(loaded, kind)
        assert loaded.card.source == f"{name}@{'a' * 40}"
    with pytest.raises(ReaderError, match="no folder is named 'someone/nothing'"):
        load_reranker("someone/nothing")
