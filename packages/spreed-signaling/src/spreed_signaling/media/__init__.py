# SPDX-License-Identifier: MIT
"""Media of a call on aiortc (extra `[media]`)."""
