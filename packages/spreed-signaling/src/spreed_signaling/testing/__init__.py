# SPDX-License-Identifier: MIT
"""Servers to test a bot against (extra `[testing]`)."""
