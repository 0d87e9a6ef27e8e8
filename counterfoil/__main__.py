"""`python -m counterfoil`."""

from __future__ import annotations

from counterfoil.cli import main

if __name__ == "__main__":
    main()
