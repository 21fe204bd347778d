"""A tiny checkpoint, and a table with questions to train on."""

import signal

import pytest
import torch
from dpr_lance.trainer.dual_encoder import save_encoder

import dpr_lance
from tests.trainer.checkpoints_made import plain
from tests.trainer.tiny_runs import SENTENCES, model_of, rows

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    plain(folder, "bert")
    return folder


@pytest.fixture(scope="session")
def place(tmp_path_factory, tiny):
    """A table and questions; BM25 mining has a page that no tokenizer reads to pass over."""
    folder = tmp_path_factory.mktemp("place")
    documents = [{"id": f"p{at}", "text": f"{sentence} of the tower"} for at, sentence in enumerate(SENTENCES)]
    documents += [{"id": "page", "text": "\ufffd" * 30}, {"id": "titled", "title": "tower", "text": "\ufffd" * 30}]
    with dpr_lance.connect(folder / "table.lance", encoder=dpr_lance.HashEncoder()) as retriever:
        retriever.add(documents, splitter=None)
    rows(folder)
    (folder / "encoder").mkdir()
    for path in tiny.iterdir():
        (folder / "encoder" / path.name).write_bytes(path.read_bytes())
    save_encoder(model_of(tiny, normalise=True), folder / "encoder")
    return folder


@pytest.fixture(autouse=True)
def interrupts():
    """Ctrl-C raises `KeyboardInterrupt`, also where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
