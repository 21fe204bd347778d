"""The trainer's modules are imported by name in the benchmarks, where no type checker looks: the names exist."""

import ast
import importlib

import pytest

from benchmarks.data import REPOSITORY


def called_module(node):
    """The module of `trainer_module("name")`; None for anything else."""
    named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "trainer_module"
    return node.args[0].value if named and isinstance(node.args[0], ast.Constant) else None


def names_used(path):
    """Yield (module, attribute) of the trainer for every use in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        modules = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                target, value = node.targets[0], node.value
                pairs = [(target, value)] if isinstance(target, ast.Name) else []
                if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                    pairs = zip(target.elts, value.elts, strict=True)
                modules |= {name.id: module for name, each in pairs if (module := called_module(each))}
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                module = called_module(node.value)
                if isinstance(node.value, ast.Name):
                    module = modules.get(node.value.id)
                if module:
                    yield module, node.attr


USED = sorted({used for path in (REPOSITORY / "benchmarks").glob("*.py") for used in names_used(path)})


def test_there_are_such_uses():
    assert len(USED) > 15


@pytest.mark.parametrize(("module", "name"), USED)
def test_a_name_of_the_trainer_exists(module, name):
    assert hasattr(importlib.import_module(f"dpr_lance.trainer.{module}"), name)
