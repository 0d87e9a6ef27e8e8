"""From a pipeline file to something that can run: graph, opening facts, open plugins."""

from __future__ import annotations

import hmac
