"""Revisions that are not there yet: the next one of a branch, put in force for one test."""

from __future__ import annotations

from pathlib import Path

import pytest

import migrations
from migrations import Branch

SCRIPT = '''
"""An invented revision."""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{name}", {before!r}, None, None


def upgrade() -> None:
    {body}
'''

GROWN = ('op.add_column("streams", sa.Column("note", sa.Text))\n'
         '    op.create_index("events_by_type", "events", ["type", "v"])')
"""What a next revision of the log may bring: a column and an index."""

FASTER = 'op.create_index("p_tokens_by_sink", "p_tokens", ["run", "sink_name"])'
WIDER = 'op.add_column("p_tokens", sa.Column("more", sa.Text))'
"""What one of the read tables may bring: an index, a column."""


def put_in_force(patch: pytest.MonkeyPatch, folder: Path, body: str, branch: Branch = "log") -> str:
    """Make the head of a branch an invented revision with this body; gives its name. The scripts stand in `folder`."""
    before = migrations.HEADS[branch]
    name = f"{int(before[:4]) + 1:04}_invented"
    scripts = folder / f"{branch}_versions"
    scripts.mkdir()
    (scripts / f"{name}.py").write_text(SCRIPT.format(name=name, before=before, body=body), encoding="utf-8")
    patch.setattr(migrations, "REVISIONS", {**migrations.REVISIONS, branch: (*migrations.REVISIONS[branch], name)})
    patch.setattr(migrations, "HEADS", {**migrations.HEADS, branch: name})
    patch.setattr(migrations, "SCRIPTS", {**migrations.SCRIPTS, branch: (*migrations.SCRIPTS[branch], scripts)})
    return name
