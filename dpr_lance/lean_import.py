"""A cheaper `import lancedb`: two thirds of it are spent on a REST client that a local table never uses.

`import lancedb` imports `lance_namespace`, which needs the models of `lance_namespace_urllib3_client`, whose package
`__init__` also builds nine REST interfaces with pydantic. Deferring that one `__init__` until something in it is asked
for nearly halves the import; every name stays where it was. `dpr_lance/__init__` does so before LanceDB is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

REST_CLIENT = "lance_namespace_urllib3_client"


def defer(package: str) -> None:
    """Let `package` be imported without running its `__init__` before one of its attributes is asked for.

    Its submodules are imported as ever. Nothing happens when it is imported already, or is not installed.
    """
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None or spec.loader is None:
        return
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)

    def on_demand(attribute: str) -> Any:  # noqa: ANN401  # whatever the package holds
        del module.__getattr__  # set below (PEP 562)
        loader.exec_module(module)
        return getattr(module, attribute)

    module.__getattr__ = on_demand  # type: ignore[method-assign]
    sys.modules[package] = module
