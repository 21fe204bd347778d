"""Deferring a package: its submodules come as ever, its own names when they are asked for."""

import subprocess
import sys

import pytest

from dpr_lance.lean_import import defer


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "heavy_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import heavy_package.log as log\nlog.ran.append(1)\nVALUE = 7\n")
    (folder / "log.py").write_text("ran = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "heavy_package"
    for name in [name for name in sys.modules if name.startswith("heavy_package")]:
        del sys.modules[name]


def test_submodules_do_not_run_the_package(package):
    defer(package)
    import heavy_package.log

    assert heavy_package.log.ran == []
    assert heavy_package.VALUE == 7
    assert heavy_package.log.ran == [1]
    assert heavy_package.VALUE == 7
    assert heavy_package.log.ran == [1]
    with pytest.raises(AttributeError):
        heavy_package.NOTHING  # noqa: B018


def test_from_imports_run_it(package):
    defer(package)
    from heavy_package import VALUE

    assert VALUE == 7


def test_what_is_imported_or_not_installed_is_left_alone(package):
    import heavy_package

    defer(package)
    assert sys.modules[package] is heavy_package
    defer("no_such_package_anywhere")
    assert "no_such_package_anywhere" not in sys.modules


def test_the_rest_client_of_lancedb_is_not_run_and_stays_whole():
    code = (
        "import dpr_lance.store, sys\n"
        "assert 'lance_namespace_urllib3_client.models' in sys.modules\n"
        "assert 'lance_namespace_urllib3_client.api' not in sys.modules\n"
        "from lance_namespace_urllib3_client import TableApi\n"
        "import lance_namespace_urllib3_client.api.table_api as module\n"
        "assert TableApi is module.TableApi\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
