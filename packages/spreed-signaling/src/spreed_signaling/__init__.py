# SPDX-License-Identifier: MIT
"""Client library for Nextcloud Talk's High-Performance Backend."""
