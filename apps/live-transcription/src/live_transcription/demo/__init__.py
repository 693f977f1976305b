# SPDX-License-Identifier: AGPL-3.0-or-later
"""Speech becomes captions on one machine: `live-transcription demo`.

`stage` starts the servers and the real ExApp, `cast` holds talkers and reader,
`director` the plot, `cli` the command; the rest is what one sees of it.
"""
