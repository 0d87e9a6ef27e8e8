"""The source without rows: for pipelines that are only to be built, and for trying sinks."""

from __future__ import annotations

from collections.abc import Iterator

from engine.plugin_api import SourceIdentity, SourceRow


class NullSource:
    """Gives nothing."""

    def identity(self) -> SourceIdentity:
        """See `engine.plugin_api.Source`."""
        return SourceIdentity("null", "", None, None)

    def rows(self, after: int | None) -> Iterator[SourceRow]:
        """See `engine.plugin_api.Source`."""
        return iter(())

    def close(self) -> None:
        """See `engine.plugin_api.Source`."""
