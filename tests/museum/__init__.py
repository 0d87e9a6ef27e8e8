"""The museum: every shape of an event that was ever written down, as the bytes that it was written in.

Why: logs that exist are never rewritten, so every version of the program has to read all of these. What has been put in is
never edited and never taken out: `manifest.json` names each exhibit with its sha256, and a test holds both ways.

`bodies/<Type>.<v>.jsonl`   bodies of one version of a type, one a line
`schemas/<Type>.<v>.json`   the shape of that version
`steps/<Type>.<v>.<e>.jsonl`  what edition `e` of the upcaster from that version makes of those bodies
`logs/<era>/<name>.jsonl`   a ledger, its streams whole; `<name>.told.json` beside it says what it tells
`logs/<era>/versions.json`  the versions in force when the logs of that era were written

`python -m tests.museum.collect` puts in what a new version needs.
"""
