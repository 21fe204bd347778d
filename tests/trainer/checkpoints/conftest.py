"""Small checkpoints: a DPR pair, a BERT model, a sentence-transformers pipeline, an offline Hub."""

import pytest

from tests.trainer import checkpoints_made as checkpoints


@pytest.fixture
def pair(tmp_path):
    """(folder, question model, passage model)."""
    question, passage = checkpoints.dpr_pair(tmp_path / "pair")
    return tmp_path / "pair", question, passage


@pytest.fixture
def bert(tmp_path):
    checkpoints.plain(tmp_path / "bert", "bert")
    return tmp_path / "bert"


@pytest.fixture
def pipeline(tmp_path):
    checkpoints.sentence_transformer(tmp_path / "pipeline", similarity_fn_name="cosine")
    return tmp_path / "pipeline"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An offline Hugging Face cache; the fixture adds a repository's snapshot to it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def add(repository, commit, branch="main", weights="model.safetensors"):
        folder = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / branch).write_text(commit, encoding="utf-8")
        (snapshot / weights).write_bytes(b"")
        return snapshot

    return add
