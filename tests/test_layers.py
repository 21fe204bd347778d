"""The library's rules: which package may import which, what is public, what an import and an installation cost."""

import ast
import inspect
import re
import subprocess
import sys
import typing
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
    "reader",
    "records",
    "table",
    "inputs",
    "indexes",
    "ingest",
    "search",
    "lancedb",
    "calibration",
    "answering",
    "health",
    "retriever",
    "connection",
    "adoption",
    "evaluation",
    "integrations",
    "cli",
]
"""The packages and the single modules of `dpr_lance/`; each may import the ones above it and itself."""

ALLOWED = {
    "lancedb": {"text.terms", "table", "indexes", "ingest", "search", "lancedb", "adoption", "health"},
    "onnxruntime": {"encoders.onnx_graph", "cli.doctor"},
    "typer": {"cli"},
    "torch": set(),
    "transformers": set(),
    "ir_measures": {"evaluation.metrics"},
    "matplotlib": {"evaluation.plot"},
    "onnx": set(),
    "langchain_core": {"integrations.langchain"},
    "llama_index": {"integrations.llamaindex"},
    "haystack": {"integrations.haystack"},
}
"""Packages of others that only these may import: packages, packages within them, or single modules."""

PUBLIC = [
    "AddReport",
    "Answer",
    "AnswerCalibration",
    "AnswerEvaluation",
    "AnswerEvaluationRow",
    "AnswerSource",
    "AnswerSpan",
    "Answers",
    "Calibration",
    "CheckReport",
    "Context",
    "ContextPassage",
    "DamagedTableError",
    "Document",
    "DprLanceError",
    "Effort",
    "EffortPoint",
    "Encoder",
    "EncoderCard",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderSource",
    "Evaluation",
    "EvaluationOutcome",
    "EvaluationPair",
    "EvaluationProgress",
    "EvaluationRow",
    "Explanation",
    "Filter",
    "Finding",
    "HashEncoder",
    "Hit",
    "HitExplanation",
    "Hits",
    "IndexInfo",
    "IndexKind",
    "IndexReport",
    "Interval",
    "InvalidInputError",
    "LabelledQuestion",
    "Language",
    "LateInteraction",
    "LateInteractionCard",
    "LearnedWeight",
    "LockedError",
    "MarkdownSplitter",
    "MissingExtraError",
    "Mode",
    "OnError",
    "PairedTest",
    "Passage",
    "PassageText",
    "Progress",
    "ProgressCallback",
    "QuestionSource",
    "Reader",
    "ReaderCard",
    "ReaderError",
    "ReaderSource",
    "Reading",
    "ReembedReport",
    "RerankCalibration",
    "RerankSource",
    "Reranker",
    "Retriever",
    "SentenceSplitter",
    "Skipped",
    "SnapshotInfo",
    "Span",
    "Splitter",
    "StorageError",
    "StoredDocument",
    "TableError",
    "TableInfo",
    "VectorReport",
    "WeightPoint",
    "WeightSource",
    "WordScore",
    "WordSplitter",
    "adopt",
    "bound_memory",
    "connect",
    "drop",
    "evaluate",
    "evaluate_answers",
    "load_encoder",
    "load_late_interaction",
    "load_reader",
    "tables",
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
            assert first in allowed, f"{module} imports {name}"
        for other, owners in ALLOWED.items():
            assert top != other or owners & {module, package, module.rpartition(".")[0]}, f"{module} imports {name}"


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
    assert dpr_lance.__all__ == PUBLIC
    assert dir(dpr_lance) == PUBLIC
    for name in PUBLIC:
        public = getattr(dpr_lance, name)
        assert getattr(public, "__name__", name) == name or name in ALIASES
    assert dpr_lance.__version__ == metadata.version("dpr-lance")
    with pytest.raises(AttributeError, match="no attribute 'Query'"):
        dpr_lance.Query  # noqa: B018


ALIASES = {
    "ReaderSource",
    "EncoderSource",
    "Filter",
    "IndexKind",
    "Language",
    "Mode",
    "OnError",
    "ProgressCallback",
    "QuestionSource",
    "RerankSource",
    "WeightSource",
}
"""Public names of annotations, for wrappers of the library's methods."""


def own_types(annotation):
    """The library's classes in an annotation, however deep."""
    if isinstance(annotation, list):  # the arguments of a Callable
        arguments = annotation
    else:
        arguments = typing.get_args(annotation)
        if isinstance(annotation, type) and annotation.__module__.startswith("dpr_lance"):
            yield annotation
    for argument in arguments:
        yield from own_types(argument)


def annotations_of(name):
    """The annotations of a public function, or of the fields, methods and properties of a public class."""
    public = getattr(dpr_lance, name)
    if not inspect.isclass(public):
        return {name: typing.get_type_hints(public)} if inspect.isfunction(public) else {}
    members = {f"{name} as a record": typing.get_type_hints(public)}
    for member, value in inspect.getmembers(public):
        function = value.fget if isinstance(value, property) else inspect.unwrap(value) if callable(value) else None
        function = getattr(function, "__func__", function)  # of a class method
        if not member.startswith("_") and inspect.isfunction(function):
            members[f"{name}.{member}"] = typing.get_type_hints(function)
    return members


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_public_name_takes_and_returns_is_public(name):
    for owner, hints in annotations_of(name).items():
        for argument, annotation in hints.items():
            for kind in own_types(annotation):
                assert kind.__name__ in PUBLIC, f"{owner}: {argument} has the type {kind.__qualname__}"


def test_public_names_are_documented():
    page = (ROOT / "docs" / "reference.md").read_text()
    assert sorted(re.findall(r"^::: dpr_lance\.(\w+)$", page, flags=re.MULTILINE)) == PUBLIC


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


def places_in_tests(found):
    """The places in the tests, FILE:LINE, of the nodes of their syntax trees for which `found` is true."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        lines = {node.lineno for node in ast.walk(ast.parse(path.read_text())) if found(node)}
        yield from (f"{path.relative_to(ROOT)}:{line}" for line in sorted(lines))


def is_private_reach(node):
    if isinstance(node, ast.ImportFrom):
        return any(alias.name.startswith("_") for alias in node.names if not alias.name.startswith("__"))
    own = (
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os")
    )
    private = isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)
    return private and not own and node.attr not in ("_asdict", "_replace", "_repr_html_")


def test_tests_use_few_private_members():
    """Each has its reason next to it."""
    reaches = list(places_in_tests(is_private_reach))
    assert len(reaches) <= 10, reaches


def test_tests_share_helpers_in_modules_of_their_own():
    assert not list(places_in_tests(lambda node: isinstance(node, ast.ImportFrom) and ".test_" in (node.module or "")))
