# SPDX-License-Identifier: MIT
"""A real browser in a call: what Chromium sends is what a bot has to hear.

Needs `pip install playwright` and a Chromium of the system; no other part of the
package does.
"""

from __future__ import annotations

from ._publisher import BrowserPublisher, BrowserUnavailable, Negotiated, Sent

__all__ = ["BrowserPublisher", "BrowserUnavailable", "Negotiated", "Sent"]
