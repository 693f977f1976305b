"""Decoding by every route, recovery, concealment, hostile payloads."""

from __future__ import annotations

import ctypes
import ctypes.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spreed_signaling.media.opus import (
    RATES,
    AvDecoder,
    Decoder,
    LibOpus,
    OpusDecoder,
    find_libopus,
    open_decoder,
)
from spreed_signaling.media.opus._libopus import load_libopus
from spreed_signaling.media.rtp import read_packet

from .opus_streams import Floats, Stream, encode, tone, voice

FEC = {"fec": "1", "packet_loss": "20"}


def system_library() -> LibOpus:
    library = find_libopus()
    assert library is not None, "libopus0 is not installed"
    return library


def bundled_library() -> LibOpus:
    folder = Path(av.__file__).parent.parent / "av.libs"
    found = sorted(folder.glob("libopus*.so*"))
    if not found:
        pytest.skip("this PyAV brings no libopus")
    library = load_libopus(str(found[0]))
    assert library is not None
    return library


ROUTES: dict[str, Callable[[int], Decoder]] = {
    "system": lambda rate: OpusDecoder(system_library(), rate),
    "bundled": lambda rate: OpusDecoder(bundled_library(), rate),
    "pyav": AvDecoder,
}


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest) -> Callable[[int], Decoder]:
    found = ROUTES[request.param]
    found(24_000).close()
    return found


@pytest.fixture(scope="module")
def spoken() -> Stream:
    return encode(voice(4.0), bit_rate=32_000, options=FEC)


def decode_all(decoder: Decoder, stream: Stream, rate: int) -> Floats:
    out = np.zeros(5_760, np.float32)
    parts = []
    for payload in stream.payloads:
        count = decoder.decode(payload, out)
        assert count == stream.ticks * rate // 48_000
        parts.append(out[:count].copy())
    return np.concatenate(parts)


def snr(signal: Floats, reference: Floats) -> float:
    noise = np.sum((signal.astype(float) - reference) ** 2)
    return float(10 * np.log10(np.sum(reference.astype(float) ** 2) / noise))


@pytest.mark.parametrize("rate", RATES)
def test_every_packet_yields_its_duration(
    route: Callable[[int], Decoder], rate: int
) -> None:
    for ticks in (120, 480, 960, 1_920, 2_880):
        stream = encode(tone(0.5), ticks=ticks)
        decode_all(route(rate), stream, rate)


def test_a_tone_keeps_its_loudness_and_place(
    route: Callable[[int], Decoder],
) -> None:
    heard = decode_all(route(24_000), encode(tone(1.0)), 24_000)[4_800:-4_800]
    assert np.sqrt(2 * np.mean(heard**2)) == pytest.approx(0.4, rel=0.05)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(np.argmax(spectrum) * 24_000 / len(heard) - 440) < 3


def test_as_good_as_full_rate_and_a_perfect_resampler(spoken: Stream) -> None:
    wide = decode_all(OpusDecoder(system_library(), 48_000), spoken, 48_000)
    direct = decode_all(OpusDecoder(system_library(), 24_000), spoken, 24_000)
    # An ideal low-pass: everything above half the rate is cut off.
    spectrum = np.fft.rfft(wide.astype(float))[: len(direct) // 2 + 1]
    reference = (np.fft.irfft(spectrum, len(direct)) / 2).astype(np.float32)
    inner = slice(2_400, -2_400)
    assert snr(direct[inner], reference[inner]) >= 50


def test_fec_brings_back_more_than_concealment(spoken: Stream) -> None:
    """Every tenth packet lost; inside the lost ones recovery is nearer the truth."""
    truth = decode_all(OpusDecoder(system_library(), 24_000), spoken, 24_000)
    errors = {"fec": 0.0, "plc": 0.0}
    for how in errors:
        decoder = OpusDecoder(system_library(), 24_000)
        out = np.zeros(2_880, np.float32)
        for index in range(len(spoken.payloads) - 1):
            following = spoken.payloads[index + 1]
            place = slice(index * 480, index * 480 + 480)
            if index % 10 != 5:
                decoder.decode(spoken.payloads[index], out)
                continue
            if how == "fec":
                assert decoder.recover(following, out, 480) == 480
            else:
                assert decoder.conceal(out, 480) == 480
            if read_packet(following).fec_ticks:
                errors[how] += float(np.sum((out[:480] - truth[place]) ** 2))
    assert errors["fec"] < 0.5 * errors["plc"]


def test_concealment_fades() -> None:
    decoder = OpusDecoder(system_library(), 24_000)
    decode_all(decoder, encode(voice(1.0), bit_rate=32_000), 24_000)
    out = np.zeros(2_880, np.float32)
    levels = []
    for _ in range(10):
        assert decoder.conceal(out, 480) == 480
        levels.append(float(np.sqrt(np.mean(out[:480] ** 2))))
    assert levels[0] > 0.01
    assert levels[9] < 0.3 * levels[0]


def test_pyav_conceals_nothing() -> None:
    decoder = AvDecoder(24_000)
    out = np.zeros(480, np.float32)
    assert decoder.conceal(out, 480) == decoder.recover(b"x", out, 480) == 0
    assert not decoder.can_conceal


@given(st.binary(max_size=200))
def test_hostile_payloads(payload: bytes) -> None:
    out = np.zeros(2_880, np.float32)
    for route in ROUTES.values():
        decoder = route(24_000)
        count = decoder.decode(payload, out)
        assert -10 <= count <= 2_880
        assert decoder.recover(payload, out, 480) <= 480
        assert np.isfinite(out).all()
        decoder.reset()
        decoder.close()


def test_truncated_payloads(route: Callable[[int], Decoder], spoken: Stream) -> None:
    rng = random.Random(1)
    decoder = route(24_000)
    out = np.zeros(2_880, np.float32)
    for payload in spoken.payloads[:60]:
        decoder.decode(payload[: rng.randrange(len(payload))], out)
    # It still decodes what is whole.
    assert decoder.decode(spoken.payloads[60], out) == 480


def test_a_closed_decoder_is_harmless() -> None:
    decoder = OpusDecoder(system_library(), 24_000)
    decoder.close()
    decoder.close()
    decoder.reset()
    assert decoder.decode(b"\xfc\xff\xfe", np.zeros(2_880, np.float32)) < 0


def test_too_little_room_is_an_error_not_an_overflow(spoken: Stream) -> None:
    decoder = OpusDecoder(system_library(), 24_000)
    assert decoder.decode(spoken.payloads[0], np.zeros(100, np.float32)) < 0
    assert decoder.conceal(np.zeros(100, np.float32), 480) < 0


@pytest.mark.parametrize("rate", [0, 22_050, 44_100, -8_000])
def test_rates_that_cannot_be(rate: int) -> None:
    for opener in (open_decoder, AvDecoder):
        with pytest.raises(ValueError, match="Hz"):
            opener(rate)


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    find_libopus.cache_clear()
    yield
    find_libopus.cache_clear()


@pytest.mark.usefixtures("nothing_found")
def test_without_any_libopus_pyav_decodes() -> None:
    assert find_libopus() is None
    assert isinstance(open_decoder(24_000), AvDecoder)


def test_what_is_no_libopus(tmp_path: Path) -> None:
    text = tmp_path / "libopus.so"
    text.write_text("no library")
    assert load_libopus(str(text)) is None
    other = ctypes.util.find_library("c")
    assert other is not None and load_libopus(other) is None


def test_the_fec_flag_agrees_with_libopus(spoken: Stream) -> None:
    """`opus_packet_has_lbrr` is there from libopus 1.5 on."""
    library = ctypes.CDLL(bundled_library().path)
    if not hasattr(library, "opus_packet_has_lbrr"):
        pytest.skip("this libopus does not tell")
    streams = [spoken, encode(voice(1.0), bit_rate=64_000)]
    for ticks in (480, 1_920, 2_880):
        streams.append(encode(voice(2.0), bit_rate=20_000, ticks=ticks, options=FEC))
    flags = []
    for stream in streams:
        for payload in stream.payloads:
            told = library.opus_packet_has_lbrr(payload, len(payload))
            facts = read_packet(payload)
            assert (facts.fec_ticks > 0) == (told == 1), payload[:2].hex()
            assert facts.ticks == stream.ticks
            flags.append(told)
    assert 0 in flags and 1 in flags


@given(st.binary(max_size=60))
def test_reading_any_payload(payload: bytes) -> None:
    facts = read_packet(payload)
    assert 0 <= facts.ticks <= 5_760 and facts.ticks % 120 == 0
    assert 0 <= facts.fec_ticks <= 2_880
    if payload:
        library = ctypes.CDLL(system_library().path)
        told = library.opus_packet_get_nb_samples(payload, len(payload), 48_000)
        assert facts.ticks == max(0, told)
