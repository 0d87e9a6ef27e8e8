"""Fold with all fold laws, in events per CPU second, against decoding alone. Run: python -m bench.fold [ROWS]"""

from __future__ import annotations

import gc
import sys
import time

from bench import logs
from ledger.codec import TYPE_OF, VERSIONS, decode, encode
from ledger.fold import State, apply

REPEATS = 3


def main(rows: int = 20_000) -> None:
    """Print a line for each pipeline."""
    for name, events in (("linear", logs.linear(rows)), ("fork/coalesce", logs.fork(rows))):
        bodies = [(encode(event), TYPE_OF[type(event)], event.seq) for event in events]
        gc.freeze()
        decode_s, fold_s = float("inf"), float("inf")
        for _ in range(REPEATS):
            began = time.process_time()
            decoded = [decode(body, type_, VERSIONS[type_], run="bench", seq=seq) for body, type_, seq in bodies]
            decode_s = min(decode_s, time.process_time() - began)
            state = State("bench")
            began = time.process_time()
            for event in decoded:
                apply(state, event)
            fold_s = min(fold_s, time.process_time() - began)
        count = len(bodies)
        print(
            f"fold {name}: {count} events, fold {count / fold_s:,.0f} events/CPU s, decode {count / decode_s:,.0f}, "
            f"both {count / (fold_s + decode_s):,.0f}; fold/decode time {fold_s / decode_s:.2f}; "
            f"body bytes per row {sum(len(body) for body, _, _ in bodies) / rows:.0f}"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
