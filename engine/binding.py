"""From a pipeline file to something that can run: its graph, and its plugins bound and opened.

Invariant: everything that can be refused is refused here, before the run has an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine import graph as graphs
from engine import pipeline_file
from engine.bound import BoundGate, BoundPipeline, BoundStep, RetryPolicy
from engine.expressions import compile_expression
from engine.fingerprints import fingerprints
from engine.plugins import Catalog, bind
from engine.ports import Ports
from engine.run import Opening
from ledger import ids
from ledger.errors import UsageError


@dataclass(frozen=True)
class Prepared:
    """A pipeline file that is known to be runnable."""

    file: pipeline_file.PipelineFile
    pipeline: graphs.Pipeline
    catalog: Catalog
