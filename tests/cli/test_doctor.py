"""The doctor: what it reports is what is there, and what is broken makes it say so."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from dpr_lance.cli import app as cli
from dpr_lance.cli import doctor
from dpr_lance.encoders.bundle import open_bundle
from dpr_lance.encoders.hash_encoder import HashEncoder
from dpr_lance.encoders.loading import DEFAULT_ENCODER, PACKAGED, load_encoder
from dpr_lance.reader.bundle import write_reader_bundle
from dpr_lance.reader.loading import load_reader
from dpr_lance.reader.onnx_reader import Reader
from tests.reader.tiny_reader import CARD, tiny_reader, tiny_reader_graph, tiny_reader_tokenizer


@pytest.fixture(scope="module", autouse=True)
def briefly():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "PASSAGE_SECONDS", 0.2)
        patch.setattr(doctor, "QUESTION_SECONDS", 0.2)
        yield


@pytest.fixture(scope="module")
def diagnosis(briefly):
    return doctor.examine()


def test_a_sound_installation(diagnosis):
    assert diagnosis.problems == ()
    assert diagnosis.packages["lancedb"] == metadata.version("lancedb")
    assert diagnosis.packages["dpr-lance"] == metadata.version("dpr-lance")
    assert sys.executable in diagnosis.python
    assert DEFAULT_ENCODER in diagnosis.packaged_encoders


def test_the_default_encoder_and_why(diagnosis):
    bundle = open_bundle(PACKAGED / DEFAULT_ENCODER)
    found = diagnosis.encoder
    assert (found.name, found.fingerprint) == (bundle.card.name, bundle.card.fingerprint)
    assert (found.folder, found.precision, found.bytes) == (str(bundle.folder), bundle.precision, bundle.size)
    assert "packaged default" in found.why
    assert "CPUExecutionProvider" in found.providers
    assert found.threads >= 1


def test_speed_is_measured(diagnosis):
    assert diagnosis.speed.passages_per_second > 1
    assert diagnosis.speed.question_milliseconds > 0


def test_the_processor(diagnosis):
    cpu = diagnosis.processor
    assert 1 <= cpu.cores <= os.cpu_count()
    if sys.platform == "linux":
        text = Path("/proc/cpuinfo").read_text().split()
        assert set(cpu.instruction_sets) == set(doctor.INSTRUCTION_SETS) & set(text)
    else:
        assert cpu.instruction_sets is None


def test_extras_name_what_is_missing(monkeypatch):
    frameworks = ["haystack", "langchain", "llamaindex"]
    assert [extra.name for extra in doctor.optional_packages()] == ["eval", *frameworks, "pandas", "polars", "train"]
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "torch" else "1")
    evaluation, *_, training = doctor.optional_packages()
    assert (evaluation.missing, training.missing) == ((), ("torch",))
    assert training.command == "pip install 'dpr-lance[train]'"


def test_a_module_that_cannot_be_imported_or_kills_python(monkeypatch, tmp_path):
    (tmp_path / "broken_module.py").write_text("raise ImportError('no AVX2 here')")
    (tmp_path / "deadly_module.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    broken, deadly = doctor.import_problems(("json", "broken_module", "deadly_module"))
    assert broken.what == "broken_module cannot be imported: ImportError: no AVX2 here"
    assert "kills Python (signal 4)" in deadly.what


def test_a_package_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("DPR_LANCE_CACHE", str(tmp_path))
    installed = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "filelock" else installed(name))
    found = doctor.examine()
    assert [problem.what for problem in found.problems] == ["filelock is not installed"]
    assert found.speed is None
    assert found.cache_folder == str(tmp_path / "bundles")


def test_onnxruntime_for_gpus_stands_in_for_onnxruntime(monkeypatch, tmp_path):
    """Both have one module, so that who installs the one uninstalls the other."""
    described = tmp_path / "onnxruntime_gpu-1.30.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.30.0\n")
    others = [path for path in sys.path if not list(Path(path or ".").glob("onnxruntime-*.dist-info"))]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    assert doctor.installed_version("onnxruntime") == "1.30.0 (onnxruntime-gpu)"
    monkeypatch.setattr(sys, "path", others)
    assert doctor.installed_version("onnxruntime") is None


def test_a_damaged_bundle_is_found(tmp_path):
    shutil.copytree(PACKAGED / DEFAULT_ENCODER, tmp_path / "bundle")
    with (tmp_path / "bundle" / "encoder.onnx").open("r+b") as stream:
        stream.seek(1_000_000)
        stream.write(b"damage")
    found = doctor.examine(str(tmp_path / "bundle"))
    (problem,) = found.problems
    assert "encoder.onnx is damaged" in problem.what
    assert found.encoder.why == "named by --encoder"


class Crooked(HashEncoder):
    """An encoder with a fault of its own."""

    def __init__(self, fault):
        super().__init__(64)
        self.fault = fault

    def encode_passages(self, passages):
        vectors = super().encode_passages(passages)
        if self.fault == "neighbours":
            return vectors * np.float32(1 + len(passages) / 1000)
        if self.fault == "length":
            return vectors * np.float32(2)
        return vectors[::-1] if len(passages) > 1 else vectors


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("neighbours", "depends on its neighbours"),
        ("length", "unit vectors"),
        ("order", "is nearer to the passage"),
    ],
)
def test_an_encoder_with_a_fault_is_found(fault, said):
    problems = list(doctor.encoder_problems(Crooked(fault)))
    assert any(said in problem.what for problem in problems)


def test_the_packaged_encoder_has_no_fault():
    assert list(doctor.encoder_problems(load_encoder(DEFAULT_ENCODER))) == []


def test_the_command_shows_it_and_exits_with_0(capsys):
    assert cli.run(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert facts["lancedb"] == metadata.version("lancedb")
    assert facts["checks"] == "all passed"
    assert "passages of 100 words per second" in facts["speed"]


def test_the_command_exits_with_1_when_something_is_broken(tmp_path, capsys):
    (tmp_path / "encoder.onnx").write_bytes(b"half a bundle")
    assert cli.run(["doctor", "--encoder", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "1 failed" in out
    assert err.startswith(f"broken: {tmp_path} is not an encoder bundle")
    assert cli.run(["doctor", "--encoder", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "is not an encoder bundle" in json.loads(out)["problems"][0]["what"]


WORDS = sorted({word for pair in doctor.PAIRS for text in pair for word in re.findall("[a-z]+", text.lower())})


def test_a_reader_is_tried_and_described(tmp_path):
    folder = tiny_reader(tmp_path, words=WORDS)
    found = doctor.examine(reader=str(folder))
    assert found.problems == ()
    assert (found.reader.name, found.reader.folder, found.reader.precision) == ("tiny reader", str(folder), "fp32")
    assert found.reader.bytes == load_reader(folder).bundle.size
    assert found.reader.milliseconds > 0


def test_a_reader_without_selection_has_no_time(tmp_path):
    found = doctor.examine(reader=str(tiny_reader(tmp_path, card=replace(CARD, selects=False))))
    assert found.problems == ()
    assert found.reader.milliseconds is None


def test_a_reader_with_a_wrong_order_is_found(tmp_path, capsys):
    folder = tiny_reader(tmp_path, words=WORDS, bias={"hamlet": 9})
    assert cli.run(["doctor", "--reader", str(folder)]) == 1
    captured = capsys.readouterr()
    assert "the reader prefers the passage 'Hamlet' to 'Bees' for 'what do bees make?'" in captured.err
    assert "tiny reader, fp32" in captured.out


def test_a_reader_whose_scores_depend_on_their_neighbours_is_found(tmp_path):
    """It adds the size of the batch."""
    graph = tiny_reader_graph(tmp_path / "graph.onnx", words=WORDS, counts_batch=True)
    files = {"tokenizer.json": tiny_reader_tokenizer(tmp_path, WORDS), "reader.onnx": graph}
    reader = Reader(write_reader_bundle(tmp_path / "reader", CARD, files, precision="fp32"))
    assert "depends on its neighbours (by 3e+02)" in next(doctor.reader_problems(reader)).what


def test_a_damaged_reader_is_found(tmp_path):
    folder = tiny_reader(tmp_path, words=WORDS)
    content = bytearray((folder / "tokenizer.json").read_bytes())
    content[100] ^= 1
    (folder / "tokenizer.json").write_bytes(content)
    (problem,) = doctor.examine(reader=str(folder)).problems
    assert "tokenizer.json is damaged" in problem.what
