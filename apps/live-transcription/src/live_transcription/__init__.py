# SPDX-License-Identifier: AGPL-3.0-or-later
"""Nextcloud ExApp: live captions in Talk calls by Kyutai speech-to-text."""
