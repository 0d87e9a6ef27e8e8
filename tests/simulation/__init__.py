"""The real program on files that fail: processes that are killed, disks that lose what was not synced, fill up, break."""
