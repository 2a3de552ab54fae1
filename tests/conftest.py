"""Fixtures of all tests. The servers are in `servers.py`; each starts when a test asks for it."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))  # import-mode=importlib adds no folder by itself

# Without a GPU the Triton kernel runs in Triton's interpreter, which must be known before triton is
# imported, by whatever test comes first.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["servers", "models", "any_engine", "command_line", "stub"]
