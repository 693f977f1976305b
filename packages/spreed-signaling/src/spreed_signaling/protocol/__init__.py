# SPDX-License-Identifier: MIT
"""The signaling protocol without I/O: no socket, no clock, no task.

Integrators who bring their own event loop drive `SignalingSession`; everybody
else uses `spreed_signaling.connect`.
"""
