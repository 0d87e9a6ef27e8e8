"""The conformance kit: whether a sink keeps what the engine relies on, as a check to run in its author's own tests.

    from counterfoil.conformance import check_sink, file_target

    def test_my_sink(tmp_path):
        report = check_sink(lambda: MySink(path=str(tmp_path / "x")), file_target(tmp_path / "x"))
        assert report.fence == "lock"

It plays runs against the sink, through every window in which a process can die, as the engine would resume them. Needs no
test framework.
"""

from __future__ import annotations

from counterfoil.conformance.examination import ROWS, check_sink, examine_sink
from counterfoil.conformance.findings import PROMISES, Beginning, Fence, Finding, Report, SinkBroken
from counterfoil.conformance.targets import Target, file_target

__all__ = ["PROMISES", "ROWS", "Beginning", "Fence", "Finding", "Report", "SinkBroken", "Target", "check_sink",
           "examine_sink", "file_target"]
