# SPDX-License-Identifier: MIT
"""Sans-I/O codecs between wire bytes and connection events: moshi-server, gateway."""
