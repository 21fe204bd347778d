"""One walk through an installed dpr_lance, with nothing but the packages of a base install: `python walk.py FOLDER`."""

import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
from lancedb.expr import col

import dpr_lance
from dpr_lance.cli import app

WORDS = ["river", "mountain", "glacier", "bridge", "castle", "violin", "engine", "harbour"]
PACKAGES = ["dpr-lance", "lancedb", "pyarrow", "numpy", "onnxruntime", "tokenizers", "huggingface-hub", "typer"]


def documents(count):
    choose = np.random.default_rng(0)
    return [
        {"id": f"d{number}", "title": WORDS[number % 8], "text": " ".join(choose.choice(WORDS, 12)), "year": number}
        for number in range(count)
    ]


def walk(folder):
    with dpr_lance.connect(folder / "t") as retriever:
        assert retriever.add(documents(60)).passages_embedded == 60
        typed = {"at": pa.array([1], pa.timestamp("us", "UTC")), "tags": pa.array([["a"]])}
        retriever.add(pa.table({"id": ["typed"], "text": ["a comet"], **typed}))
        retriever.update("d1", {"year": 1900})
        retriever.delete("d2")
        retriever.optimize(filter_columns=["year"])
        for mode in ("hybrid", "dense", "bm25"):
            assert len(retriever.search("river bridge", 5, mode=mode, explain=True)) == 5
        assert retriever.search("river", where=col("year") == 1900)[0].document_id == "d1"
        assert retriever.search("river", where="year > 50", group_by="title", diversity=0.2, offset=1)
        assert retriever.search("a comet", 3, rerank=True).reranked
        assert retriever.search("comet").to_arrow()["tags"].to_pylist()[0] == ["a"]
        retriever.answer("what is a comet?")
        retriever.calibrate(["river bridge", "castle"] * 15)
        taken = retriever.snapshot("before")
        retriever.delete(where="true")
        assert retriever.restore("before") == taken
        assert retriever.export(folder / "dump.parquet") == retriever.export(folder / "dump.jsonl") == 60
        assert retriever.check().ok
    for ending in ("parquet", "jsonl"):
        with dpr_lance.connect(folder / ending) as copy:
            assert copy.add(folder / f"dump.{ending}").passages_added == 60
            copy.reembed(dpr_lance.HashEncoder(32))
            assert copy.search("river", mode="dense")
    assert app.run(["search", str(folder / "t"), "river", "--json"]) == 0
    assert app.run(["info", str(folder / "t")]) == 0
    dpr_lance.drop(folder / "t")
    assert dpr_lance.tables(folder / "t") == []


if __name__ == "__main__":
    walk(Path(sys.argv[1]))
    sys.stdout.write(
        f"{sys.version.split()[0]}: {', '.join(f'{name} {metadata.version(name)}' for name in PACKAGES)}\n"
    )
