# SPDX-License-Identifier: MIT
"""Gateway in front of Kyutai's moshi-server. Not built yet, see the README."""
