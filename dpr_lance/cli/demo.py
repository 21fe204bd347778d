"""The demo's corpus, which every machine has: the docstrings of Python's own standard library."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import pkgutil
import sys
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

from dpr_lance.documents.document import Document

MODULES: tuple[str, ...] = (
    "argparse", "array", "ast", "asyncio", "base64", "bisect", "builtins", "bz2", "calendar", "cmath", "codecs",
    "collections", "collections.abc", "concurrent.futures", "configparser", "contextlib", "copy", "csv", "ctypes",
    "dataclasses", "datetime", "decimal", "difflib", "email.message", "enum", "fileinput", "fnmatch", "fractions",
    "ftplib", "functools", "getpass", "gettext", "glob", "graphlib", "gzip", "hashlib", "heapq", "hmac", "html",
    "html.parser", "http.client", "http.cookiejar", "http.server", "imaplib", "importlib", "importlib.metadata",
    "importlib.resources", "inspect", "io", "ipaddress", "itertools", "json", "linecache", "locale", "logging",
    "logging.handlers", "lzma", "math", "mimetypes", "mmap", "multiprocessing", "operator", "os", "os.path", "pathlib",
    "pickle", "pkgutil", "platform", "pprint", "queue", "random", "re", "sched", "secrets", "select", "selectors",
    "shelve", "shlex", "shutil", "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "statistics",
    "string", "struct", "subprocess", "sys", "tarfile", "tempfile", "textwrap", "threading", "time", "timeit",
    "tokenize", "traceback", "types", "typing", "unicodedata", "unittest", "unittest.mock", "urllib.parse",
    "urllib.request", "uuid", "venv", "warnings", "weakref", "webbrowser", "xml.etree.ElementTree", "xmlrpc.client",
    "zipfile", "zlib", "zoneinfo",
)  # fmt: skip
"""What people ask about, and two cores embed in about a minute; `--all` takes every module."""

QUESTIONS: tuple[str, ...] = (
    "how do I read a gzip file line by line?",
    "run a command and get its output",
    "make several threads wait for each other at the same point",
    "hide the password while the user types it",
)

_UNSAFE = frozenset(
    {"antigravity", "this", "idlelib", "lib2to3", "test", "tkinter", "turtle", "turtledemo", "encodings"}
)
"""Not imported: they open a browser, print, need a display, write files, are tests or hundreds of codecs."""
_IMPLEMENTATIONS = frozenset({"posix", "nt", "posixpath", "ntpath", "genericpath"})
"""Platform modules whose functions people know as `os` and `os.path`."""
_FEWEST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Corpus:
    """The docstrings as documents, the modules that they come from, and those that could not be imported."""

    documents: tuple[Document, ...]
    modules: tuple[str, ...]
    left_out: tuple[str, ...]


def standard_library(modules: Iterable[str] | None = None) -> Corpus:
    """Collect the docstrings of the named modules (of the whole standard library without names).

    One document for each module, class, function, public method and property with a docstring of its own; id and
    title are its qualified name; metadata: `kind`, `module`, and the source `line` where it is known. Each object
    appears once, under the module that defines it or the package that exports it. The order is always the same.
    """
    imported: dict[str, ModuleType] = {}
    left_out: list[str] = []
    names = sorted(modules if modules is not None else _all_modules(), key=lambda name: (name.count("."), name))
    for name in names:  # packages before what is inside: people know asyncio.run, not asyncio.runners.run
        module = _imported(name)
        if module is None:
            left_out.append(name)
        else:
            imported[name] = module
    documents: dict[str | None, Document] = {}
    with _silence():
        for document in _documents(imported):
            documents.setdefault(document.id, document)
    return Corpus(tuple(documents.values()), tuple(imported), tuple(left_out))


def _all_modules() -> Iterator[str]:
    for name in sorted(sys.stdlib_module_names - _UNSAFE - _IMPLEMENTATIONS):
        if not name.startswith("_"):
            yield name
            package = _imported(name)
            yield from _inner_modules(name, getattr(package, "__path__", ()))
            if name == "os":
                yield "os.path"


def _inner_modules(package: str, path: Sequence[str]) -> Iterator[str]:
    for found in sorted(pkgutil.iter_modules(path), key=lambda found: found.name):
        if not found.name.startswith("_") and found.name not in ("test", "tests", "idle_test"):
            name = f"{package}.{found.name}"
            yield name
            if found.ispkg:
                yield from _inner_modules(name, getattr(_imported(name), "__path__", ()))


def _imported(name: str) -> ModuleType | None:
    """Return the module; None when this platform or build of Python does not have it."""
    with _silence():
        try:
            return importlib.import_module(name)
        except Exception:  # noqa: BLE001 - a module made for another platform may fail in any way; it is listed
            return None


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide what modules print and warn about, mostly deprecations."""
    sink = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        warnings.simplefilter("ignore")
        yield


def _documents(modules: dict[str, ModuleType]) -> Iterator[Document]:
    claimed: set[int] = set()
    for name, module in modules.items():
        if document := _document(name, "module", module, name):
            yield document
        found = [(attribute, getattr(module, attribute, None)) for attribute in _public_names(module)]
        functions = [(attribute, member) for attribute, member in found if inspect.isroutine(member)]
        classes = [(attribute, member) for attribute, member in found if inspect.isclass(member)]
        for attribute, member in functions + classes:  # functions first: random.choice is a method of a hidden Random
            if _identity(member) in claimed or not _belongs(member, name, modules):
                continue
            claimed.add(_identity(member))
            qualified = attribute if name == "builtins" else f"{name}.{attribute}"
            if document := _document(qualified, "class" if inspect.isclass(member) else "function", member, name):
                yield document
            if inspect.isclass(member):
                yield from _members(member, qualified, name, claimed)


def _members(owner: type, qualified: str, module: str, claimed: set[int]) -> Iterator[Document]:
    for name, found in sorted(vars(owner).items()):
        if name.startswith("_"):
            continue
        method = found.__func__ if isinstance(found, classmethod | staticmethod) else found
        is_property = isinstance(method, property)
        if (is_property or inspect.isroutine(method)) and _identity(method) not in claimed:
            claimed.add(_identity(method))
            if document := _document(f"{qualified}.{name}", "property" if is_property else "method", method, module):
                yield document


def _identity(found: object) -> int:
    """Return the same number for a function and for the bound methods that wrap it."""
    return id(found.__func__ if inspect.ismethod(found) else found)


def _public_names(module: ModuleType) -> list[str]:
    return sorted(name for name in getattr(module, "__all__", vars(module)) if not name.startswith("_"))


def _belongs(found: object, name: str, modules: Container[str]) -> bool:
    """Return whether the object belongs to the module called `name` and was not imported from another."""
    home = getattr(found, "__module__", None) or name
    if home == name or home.startswith(f"{name}.") or home in _IMPLEMENTATIONS:
        return True
    if home in modules:
        return False
    return any(part.startswith("_") for part in home.split("."))


def _document(qualified: str, kind: str, found: object, module: str) -> Document | None:
    """Return the docstring as a document; None when the object has none of its own worth reading."""
    text = vars(found).get("__doc__") if inspect.isclass(found) else getattr(found, "__doc__", None)
    if not isinstance(text, str) or len(text.split()) < _FEWEST_WORDS:
        return None
    function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    metadata = {"kind": kind, "module": module, "line": line}
    return Document(inspect.cleandoc(text), title=qualified, id=qualified, metadata=metadata)
