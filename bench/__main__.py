"""All benchmarks, one after the other. Run: python -m bench"""

from __future__ import annotations

from bench import append, effects, fold, growth, memory, postgres, rebuild, rows

if __name__ == "__main__":
    rows.main()
    effects.main()
    append.main()
    fold.main()
    rebuild.main()
    postgres.main()
    memory.main()
    growth.main(*growth.SIZES[:-1])
