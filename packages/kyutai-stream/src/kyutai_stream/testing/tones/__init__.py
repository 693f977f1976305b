# SPDX-License-Identifier: MIT
"""A language of tones: words that are really in the audio, and a recogniser for them.

Whether a caption path loses or doubles words can only be tested with words that
are decoded from the audio itself. Here each word is a short chord of three tones;
`speak` makes the samples, `ToneRecogniser` hears them, and both know the exact
times. The words survive Opus at speech bitrates and a change of sample rate.

```python
spoken = speak("alpha bravo charlie. delta echo")
heard = ToneRecogniser().push(spoken.samples)
```

The 26 chords are the lines of a Steiner system: 13 frequencies, three to a word,
and no two words share more than one. A damaged word is therefore not heard at all
rather than taken for another one.
"""

from __future__ import annotations

from .hearing import ToneRecogniser
from .speaking import Utterance, speak
from .vocabulary import TONES_HZ, VOCABULARY, HeardWord, chord_hz, duration_s

__all__ = [
    "TONES_HZ",
    "VOCABULARY",
    "HeardWord",
    "ToneRecogniser",
    "Utterance",
    "chord_hz",
    "duration_s",
    "speak",
]
