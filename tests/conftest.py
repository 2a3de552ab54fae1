"""Fixtures of all tests. The servers are in `servers.py`; each starts when a test asks for it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # import-mode=importlib adds no folder by itself

pytest_plugins = ["servers", "any_engine", "models", "command_line"]
