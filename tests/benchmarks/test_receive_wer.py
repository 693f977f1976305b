"""Speech keeps its meaning on its way through the real Janus and our receiver."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pocketsphinx")


@pytest.mark.real
@pytest.mark.timeout(300)
async def test_words_survive_janus_and_lost_packets(real_available: None) -> None:
    from benchmarks._receive_wer_speech import CLIPS, Recogniser, decode, load_speech
    from benchmarks.receive_wer import Condition, count_errors_of, listen

    clips = sorted(CLIPS.glob("*.wav"))
    speeches = [load_speech(clip, fec=True, sentences=2) for clip in clips]
    straight = {speech.name: decode(speech.payloads) for speech in speeches}
    lossy = Condition(0.05, seed=1)
    hearings = await listen("ours", speeches, [Condition(0.0), lossy])
    assert len(hearings) == 8
    overloaded = False
    for one in hearings:
        whole = straight[one.speech.name]
        stats = one.speaker.stats
        on_purpose = one.condition.lost(len(one.speech.payloads))
        assert stats.packets == one.passed
        if one.network_lost:
            # The machine dropped packets; the words must be right nevertheless.
            overloaded = True
            continue
        assert one.lost == len(on_purpose)
        # One at the end is not missed by anybody.
        assert stats.lost == pytest.approx(one.lost, abs=1)
        assert len(one.heard) == pytest.approx(len(whole), abs=480)
        assert stats.gap_s < 0.1
        if not on_purpose:
            # The very same samples, so that no recogniser need be asked.
            np.testing.assert_array_equal(one.heard, whole)

    recogniser = Recogniser()
    least = 0.0
    if overloaded:
        direct = [(speech, straight[speech.name]) for speech in speeches]
        least = (await count_errors_of(recogniser, direct)).rate or 0.0
        clean = [(one.speech, one.heard) for one in hearings if not one.condition.loss]
        assert ((await count_errors_of(recogniser, clean)).rate or 0.0) <= least + 0.03
    heard = [(one.speech, one.heard) for one in hearings if one.condition is lossy]
    with_loss = await count_errors_of(recogniser, heard)
    assert with_loss.words > 70
    assert (with_loss.rate or 0.0) <= least + 0.10, with_loss
