"""What this program is: the name and the version that a run says it was written by.

Invariant: the version is that of pyproject.toml; a test holds it.
"""

from __future__ import annotations

PROGRAM = "counterfoil 0.1.0"
