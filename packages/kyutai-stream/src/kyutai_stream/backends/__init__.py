# SPDX-License-Identifier: MIT
"""The backends shipped here; each is loaded through its entry point, on demand."""
