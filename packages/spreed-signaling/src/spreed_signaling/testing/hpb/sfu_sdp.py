# SPDX-License-Identifier: MIT
"""Session descriptions as the real media server writes them.

aiortc puts candidates and all its codecs into its descriptions. Janus names one
codec per kind, sends candidates in messages of their own and numbers payload
types and header extensions in its own way; clients must cope with that, so the
embedded server does the same.

Source:
    Session descriptions of Janus 1.1.2 recorded behind HPB 2.0.2.
"""

from __future__ import annotations

from typing import Any

from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters
from aiortc.sdp import SessionDescription, candidate_to_sdp

__all__ = ["candidates", "janus_offer", "offered_kinds", "strip"]

_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_EXTENSIONS = {
    "audio": ((1, _AUDIO_LEVEL), (4, _MID)),
    "video": ((4, _MID),),
}
_PAYLOAD_TYPES = {"audio": 111, "video": 96}


def offered_kinds(sdp: str) -> list[tuple[str, str, bool]]:
    """Return kind, direction and "has a codec that we forward" of each m-line.

    Raises:
        ValueError: If the text is not a session description.
    """
    try:
        parsed = SessionDescription.parse(sdp)
    except (AssertionError, AttributeError, IndexError, KeyError, StopIteration) as exc:
        raise ValueError(f"not a session description: {exc!r}") from exc
    if not parsed.media:
        raise ValueError("session description without media")
    return [
        (
            media.kind,
            media.direction or "sendrecv",
            any(_forwardable(codec) for codec in media.rtp.codecs),
        )
        for media in parsed.media
    ]


def _forwardable(codec: Any) -> bool:
    return codec.mimeType.lower() in ("audio/opus", "video/vp8")


def janus_offer(sdp: str) -> str:
    """Renumber a fresh offer of aiortc as Janus would, before it is applied."""
    parsed = SessionDescription.parse(sdp)
    for media in parsed.media:
        if media.kind not in _PAYLOAD_TYPES:
            continue
        number = _PAYLOAD_TYPES[media.kind]
        media.rtp.codecs = media.rtp.codecs[:1]
        media.rtp.codecs[0].payloadType = number
        media.fmt = [number]
        media.rtp.headerExtensions = [
            RTCRtpHeaderExtensionParameters(id=number, uri=uri)
            for number, uri in _EXTENSIONS[media.kind]
        ]
    return str(parsed)


def strip(sdp: str, name: str) -> str:
    """Return a local description as it goes to the client.

    Args:
        sdp: A complete local description of aiortc.
        name: The session name (`s=`), which shows Janus' room.
    """
    parsed = SessionDescription.parse(sdp)
    parsed.name = name
    for index, media in enumerate(parsed.media):
        media.ice_candidates = []
        media.ice_candidates_complete = False
        media.ice_options = "trickle"
        media.port = 9
        if media.dtls is not None:
            media.dtls.fingerprints = [
                item for item in media.dtls.fingerprints if item.algorithm == "sha-256"
            ]
        if media.kind in _PAYLOAD_TYPES:
            media.rtp.codecs = media.rtp.codecs[:1]
            media.fmt = [codec.payloadType for codec in media.rtp.codecs]
            media.msid = f"janus janus{index}"
            for source in media.ssrc:
                source.cname = "janus"
            media.ssrc, media.ssrc_group = media.ssrc[:1], []
    return str(parsed)


def candidates(sdp: str) -> tuple[dict[str, Any], ...]:
    """Return the candidates of a local description as `candidate` payloads."""
    parsed = SessionDescription.parse(sdp)
    # All m-lines are bundled, so that the first one's candidates serve all.
    media = parsed.media[0]
    return tuple(
        {
            "sdpMid": media.rtp.muxId,
            "sdpMLineIndex": 0,
            "candidate": f"candidate:{candidate_to_sdp(candidate)}",
        }
        for candidate in media.ice_candidates
    )
