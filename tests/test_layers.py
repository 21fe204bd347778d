"""The house's rules: who may import whom, what is public, what importing costs, and how much a base install brings."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dpr_lance

ROOT = Path(__file__).parent.parent

ORDER = [
    "memory",
    "errors",
    "checks",
    "normal_form",
    "forks",
    "table_files",
    "check_report",
    "metrics",
    "lines",
    "card",
    "words",
    "snippet",
    "records",
    "document",
    "field_types",
    "values",
    "column_casts",
    "arrow_records",
    "questions",
    "boundaries",
    "markdown",
    "splitter",
    "bundle",
    "hash_encoder",
    "onnx_file",
    "graph",
    "encoder",
    "identity",
    "schema",
    "encoding",
    "engine_errors",
    "address",
    "filter_tokens",
    "filter_syntax",
    "filters",
    "doubled",
    "contention",
    "rows",
    "columns",
    "coverage",
    "retention",
    "remembered",
    "snapshot",
    "opening",
    "store",
    "index_policy",
    "recall",
    "indexes",
    "widening",
    "embedding",
    "fusion",
    "resident",
    "documents",
    "ingestion",
    "stopwatch",
    "legs",
    "explanation",
    "search",
    "weighing",
    "calibration",
    "context",
    "table_info",
    "lookup",
    "metadata_update",
    "table_encoder",
    "check",
    "rebuild",
    "retriever",
    "connection",
    "dpr_files",
    "vector_import",
    "trec",
    "labels",
    "evaluation",
    "gates",
    "plot",
    "listing",
    "files",
    "demo",
    "doctor",
    "display",
    "hits_display",
    "evaluation_display",
    "invocation",
    "options",
    "cli_evaluation",
    "cli_training",
    "cli_vectors",
    "cli",
]
"""The rooms of `dpr_lance/`; each may import the ones above it."""

ALLOWED = {
    "lancedb": {
        "words",
        "filters",
        "contention",
        "coverage",
        "doubled",
        "check",
        "rebuild",
        "retention",
        "remembered",
        "snapshot",
        "opening",
        "store",
        "recall",
        "indexes",
        "stopwatch",
        "legs",
        "metadata_update",
        "widening",
    },
    "onnxruntime": {"graph", "doctor"},
    "typer": {"cli", "cli_evaluation", "cli_training", "cli_vectors", "invocation", "options"},
    "torch": set(),
    "transformers": set(),
    "ir_measures": {"metrics"},
    "matplotlib": {"plot"},
    "onnx": set(),
}
"""Packages that only these rooms may import."""

PUBLIC = [
    "CheckReport",
    "DamagedTableError",
    "Document",
    "DprLanceError",
    "Encoder",
    "EncoderError",
    "EncoderMismatchError",
    "Finding",
    "HashEncoder",
    "Hit",
    "Hits",
    "InvalidInputError",
    "LockedError",
    "MarkdownSplitter",
    "MissingExtraError",
    "Passage",
    "Retriever",
    "SentenceSplitter",
    "StorageError",
    "TableError",
    "WordSplitter",
    "bound_memory",
    "connect",
    "evaluate",
    "load_encoder",
]


def imports(path, package):
    """Every module that a file imports, anywhere in it, by absolute name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{package}.{node.module}" if node.level and node.module else node.module or package
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms():
    return [path for path in (ROOT / "dpr_lance").glob("*.py") if path.stem not in ("__init__", "__main__")]


def test_every_room_is_in_the_order():
    assert sorted(path.stem for path in rooms()) == sorted(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_the_rooms_above_it(room):
    above = set(ORDER[: ORDER.index(room)])
    path = ROOT / "dpr_lance" / f"{room}.py"
    for name in imports(path, "dpr_lance"):
        top, _, rest = name.partition(".")
        if top == "dpr_lance" and rest:
            first = rest.split(".")[0]
            # `dpr_lance.trainer` is reached by importlib, on demand, and never imported by name.
            assert first in above or first == "__version__", f"{room} imports {name}"
        for package, owners in ALLOWED.items():
            assert top != package or room in owners, f"{room} imports {name}"


def test_rooms_have_one_purpose_and_fit_on_a_few_screens():
    long = {path.name: lines for path in rooms() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_the_library_never_imports_the_trainer_by_name():
    for path in rooms():
        assert not [name for name in imports(path, "dpr_lance") if name.startswith("dpr_lance.trainer")], path


def test_public_names():
    assert sorted(dpr_lance.__all__) == PUBLIC
    assert dir(dpr_lance) == PUBLIC
    for name in PUBLIC:
        assert getattr(dpr_lance, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Query'"):
        dpr_lance.Query  # noqa: B018


def loaded_after(statement):
    """The packages of which a fresh process has loaded modules after `statement`.

    LanceDB keeps unloaded stand-ins of optional packages in `sys.modules`: one counts when a module within it is there.
    """
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules if '.' in name}}))"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_is_nearly_free():
    assert not loaded_after("import dpr_lance") & {
        "lancedb",
        "pyarrow",
        "numpy",
        "onnxruntime",
        "torch",
        "transformers",
    }


def test_searching_loads_no_torch(tmp_path):
    statement = (
        f"import dpr_lance; r = dpr_lance.connect({str(tmp_path / 't')!r}); "
        f"r.add([{{'text': 'a river in the Alps'}}]); assert len(r.search('river')) == 1"
    )
    loaded = loaded_after(statement)
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "transformers", "onnx", "sklearn", "scipy"}


def test_a_base_install_is_small():
    """Resolved from the metadata of what is installed: the packages that `pip install dpr-lance` brings."""
    found, pending = set(), ["dpr-lance"]
    while pending:
        name = pending.pop()
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in requirement.extras or {""}
            )
            needed = requirement.name.lower().replace("_", "-")
            if wanted and needed not in found:
                found.add(needed)
                pending.append(needed)
    assert "torch" not in found
    assert {"lancedb", "onnxruntime", "tokenizers"} <= found
    assert len(found) + 1 <= 45, sorted(found)
