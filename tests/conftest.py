"""Fixtures of all tests. The servers are in `servers.py`; each starts when a test asks for it."""

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # import-mode=importlib adds no folder by itself

# Without a GPU the Triton kernel runs in Triton's interpreter, which must be known before triton is
# imported, by whatever test comes first.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["servers", "models", "any_engine", "command_line", "stub", "foreign"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "gpu" in item.path.parts:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="There is no GPU with CUDA."))
