"""The library's rules: which package may import which, what is public, what an import and an installation cost."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dpr_lance

ROOT = Path(__file__).parent.parent

ORDER = [
    "errors",
    "checks",
    "documents",
    "text",
    "encoders",
    "records",
    "table",
    "readers",
    "indexes",
    "ingest",
    "search",
    "calibration",
    "health",
    "retriever",
    "connection",
    "evaluation",
    "cli",
]
"""The packages and the single modules of `dpr_lance/`; each may import the ones above it and itself."""

ALLOWED = {
    "lancedb": {"text.terms", "table", "indexes", "ingest", "search", "health"},
    "onnxruntime": {"encoders.onnx_graph", "cli.doctor"},
    "typer": {"cli"},
    "torch": set(),
    "transformers": set(),
    "ir_measures": {"evaluation.metrics"},
    "matplotlib": {"evaluation.plot"},
    "onnx": set(),
}
"""Packages of others that only these may import: whole packages, or single modules."""

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
    "VectorReport",
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


def modules():
    """Every module by its name within the library, as `table.store`; without the trainer."""
    folder = ROOT / "dpr_lance"
    paths = {path.relative_to(folder).with_suffix(""): path for path in folder.rglob("*.py")}
    return {
        ".".join(place.parts): path
        for place, path in paths.items()
        if place.name not in ("__init__", "__main__") and place.parts[0] != "trainer"
    }


MODULES = modules()


def package_of(module):
    return module.split(".")[0]


def test_every_package_is_in_the_order():
    assert {package_of(module) for module in MODULES} == set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_its_own_package_and_those_above_it(module):
    package = package_of(module)
    allowed = {*ORDER[: ORDER.index(package)], *([package] if "." in module else [])}
    for name in imports(MODULES[module], "dpr_lance"):
        top, _, rest = name.partition(".")
        if top == "dpr_lance" and rest:
            # `dpr_lance.trainer` is reached by importlib, on demand, and never imported by name.
            first = package_of(rest)
            assert first in allowed or first == "__version__", f"{module} imports {name}"
        for other, owners in ALLOWED.items():
            assert top != other or owners & {module, package}, f"{module} imports {name}"


def imported_modules(module):
    for name in imports(MODULES[module], "dpr_lance"):
        within = name.removeprefix("dpr_lance.")
        if within in MODULES:
            yield within
        elif within.rpartition(".")[0] in MODULES:
            yield within.rpartition(".")[0]


def test_no_modules_import_one_another_in_a_circle():
    """Within a package too, wherever in a module the import stands."""
    graph = {module: set(imported_modules(module)) for module in MODULES}
    list(TopologicalSorter(graph).static_order())


def test_modules_have_one_purpose_and_fit_on_a_few_screens():
    long = {module: lines for module, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


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
