#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later
# Make the demo's speech clips anew from the .txt files beside them.
#
# Needs Debian's flite and python3, nothing else; the result is the same every
# time. Each line of a .txt file becomes one sentence. Usage: tools/make_clips.sh
set -eu

cd "$(dirname "$0")/../apps/live-transcription/src/live_transcription/demo/clips"
command -v flite >/dev/null || { echo "flite is missing (Debian package flite)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

make_clip() { # name voice
    number=0
    rm -f "$work"/*.wav
    while IFS= read -r sentence; do
        number=$((number + 1))
        flite -voice "$2" -t "$sentence" -o "$work/$number.wav"
    done <"$1.txt"
    python3 - "$1.wav" "$work" <<'PYTHON'
import array
import pathlib
import sys
import wave

RATE = 16_000
PEAK = 18_000  # about -5 dBFS, so that all voices are about equally loud
EDGE_S, PAUSE_S = 0.2, 0.75  # seconds of silence at both ends and between sentences


def sentence(path):
    """One sentence without the silence that flite puts around it."""
    with wave.open(str(path)) as reader:
        assert (reader.getframerate(), reader.getnchannels()) == (RATE, 1), path
        samples = array.array("h", reader.readframes(reader.getnframes()))
    loud = [i for i, value in enumerate(samples) if abs(value) > 200]
    margin = RATE // 50
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def silence(seconds):
    return array.array("h", bytes(2 * round(RATE * seconds)))


paths = sorted(pathlib.Path(sys.argv[2]).glob("*.wav"), key=lambda path: int(path.stem))
clip = silence(EDGE_S)
for number, path in enumerate(paths):
    clip += silence(PAUSE_S) if number else silence(0)
    clip += sentence(path)
clip += silence(EDGE_S)
gain = PEAK / max(abs(value) for value in clip)
clip = array.array("h", (round(value * gain) for value in clip))
with wave.open(sys.argv[1], "wb") as writer:
    writer.setparams((1, 2, RATE, 0, "NONE", ""))
    writer.writeframes(clip.tobytes())
print(f"{sys.argv[1]}: {len(clip) / RATE:.2f} s")
PYTHON
}

make_clip alice_martin slt
make_clip ben_keller rms
make_clip callum_reid awb
make_clip david_kim kal16
