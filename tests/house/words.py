"""Words that must not stand anywhere in the project, put together here so that this file does not hold them either.

Addresses of package registries (a lock names versions, not places), paths of one machine.
"""

from __future__ import annotations

from collections.abc import Iterable

HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
    )
)
OPTIONS = tuple("--" + "-".join(parts) for parts in (("index", "url"), ("extra", "index", "url"), ("find", "links")))
PATHS = tuple(f"/{name}/" for name in ("work", "root", "tmp", "home", "Users", "opt"))


def forbidden(path: str, text: str, words: Iterable[str] = (*HOSTS, *OPTIONS, *PATHS)) -> list[str]:
    """Each line of the text that holds one of the words."""
    return [
        f"{path}:{number}: {word}"
        for word in words
        if word in text
        for number, line in enumerate(text.splitlines(), start=1)
        if word in line
    ]
