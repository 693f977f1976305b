"""The embedded server's frames have the keys and the order of recorded ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack
from aiortc.sdp import SessionDescription, candidate_from_sdp

from spreed_signaling.testing.hpb import EmbeddedHpb
from spreed_signaling.testing.nextcloud import Member, StandInNextcloud

from .raw_client import Frame, RawClient, kind_of, raw_client

TRACE = Path(__file__).parents[3] / "fixtures" / "signaling-trace.jsonl"

_OPAQUE = {"properties", "sdp", "candidate", "features"}
"""Not descended into: content of others."""


def recorded(scenario: str) -> list[Frame]:
    lines = TRACE.read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["scenario"] == scenario]


def shape(value: Any, path: str = "") -> set[str]:
    """Return the paths of all keys."""
    found: set[str] = set()
    if isinstance(value, list):
        for item in value:
            found |= shape(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "users":
                # Entries of users come from Nextcloud; internal ones do not.
                item = [entry for entry in item if entry.get("internal")]
            found.add(f"{path}.{key}")
            if key not in _OPAQUE or path.endswith("payload"):
                found |= shape(item, f"{path}.{key}")
    return found


def shapes(frames: Iterable[Frame]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for frame in frames:
        found.setdefault(kind_of(frame), set()).update(shape(frame))
    return found


def order(frames: Iterable[Frame]) -> list[str]:
    """Return the kinds in order, runs of one kind once."""
    kinds: list[str] = []
    for frame in frames:
        if not kinds or kinds[-1] != kind_of(frame):
            kinds.append(kind_of(frame))
    return kinds


class Scenario:
    """What `subscribe-2.0.2` did, played against the embedded server."""

    def __init__(self, publisher: RawClient, subscriber: RawClient) -> None:
        self.p = publisher
        self.t = subscriber
        self.connections = [
            RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2)
        ]

    async def publish(self) -> None:
        connection = self.connections[0]
        connection.addTrack(AudioStreamTrack())
        connected = anyio.Event()

        @connection.on("connectionstatechange")
        def on_change() -> None:
            if connection.connectionState == "connected":
                connected.set()

        await connection.setLocalDescription(await connection.createOffer())
        payload = {"type": "offer", "sdp": connection.localDescription.sdp}
        data = {"type": "offer", "sid": "1", "roomType": "video", "payload": payload}
        await self.p.to_session(self.p.session_id, data)
        answer = await self.p.kind("message/answer")
        sdp = answer["message"]["data"]["payload"]["sdp"]
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        value = (await self.p.kind("message/candidate"))["message"]["data"]
        candidate = candidate_from_sdp(
            value["payload"]["candidate"]["candidate"].removeprefix("candidate:")
        )
        candidate.sdpMLineIndex = 0
        await connection.addIceCandidate(candidate)
        with anyio.fail_after(5):
            await connected.wait()

    async def subscribe(self) -> None:
        await self.t.request_offer(self.p.session_id)
        await self.t.kind("message/offer")
        await self.t.kind("message/candidate")

    async def close(self) -> None:
        for connection in self.connections:
            await connection.close()


async def test_subscribe(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud, alice: Member
) -> None:
    trace = recorded("subscribe-2.0.2")
    async with raw_client(hpb) as p, raw_client(hpb) as t:
        scenario = Scenario(p, t)
        await p.hello_member(alice)
        await p.join(alice)
        await p.kind("event/room/join")
        await nextcloud.join_call(alice)
        await p.kind("event/participants/update")
        await scenario.publish()
        await t.hello_internal(backend=nextcloud.url, features=None, version="2.0")
        await t.send("internal", {"type": "incall", "incall": {"incall": 1}})
        await t.join()
        await t.kind("event/participants/update")
        await p.kind("event/participants/update")
        await scenario.subscribe()
        for name, client in (("P", p), ("T", t)):
            real = [x["msg"] for x in trace if (x["who"], x["dir"]) == (name, "recv")]
            assert shapes(client.received) == shapes(real), name
            assert order(client.received) == order(real), name
        await scenario.close()


async def test_requests_to_nextcloud(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud, alice: Member
) -> None:
    real: dict[str, set[str]] = {}
    for line in recorded("republish-leave-bye-2.0.2"):
        if line["who"] == "backend" and line["dir"] == "POST":
            body = line["msg"]
            kind = f"{body['type']} {body[body['type']].get('action')}"
            real.setdefault(kind, shape(body))
    async with raw_client(hpb) as p:
        await p.hello_member(alice)
        await p.join(alice)
        await p.send("bye", {})
        await p.close_code()
    await nextcloud.wait_for_request(lambda request: "leave" in request.summary)
    ours: dict[str, set[str]] = {}
    for request in nextcloud.requests:
        if request.path.endswith("/signaling/backend"):
            body = json.loads(request.body)
            ours[f"{body['type']} {body[body['type']].get('action')}"] = shape(body)
    assert set(ours) == {"auth None", "room None", "room leave"}
    for kind, found in ours.items():
        assert found == real[kind], kind


async def test_recorded_error_frames_have_our_shape() -> None:
    """Codes of the trace are among ours, with the same keys."""
    from spreed_signaling.testing.hpb import frames

    for line in map(json.loads, TRACE.read_text(encoding="utf-8").splitlines()):
        body = line["msg"]
        if line["dir"] == "recv" and body.get("type") == "error":
            error = body["error"]
            ours = frames.error(body["id"], error["code"], details=error.get("details"))
            assert shape(ours) == shape(body)
            if error["code"] != "not_allowed":
                assert ours == body


async def test_offer_has_the_lines_of_the_recorded_one(
    hpb: EmbeddedHpb, nextcloud: StandInNextcloud, alice: Member
) -> None:
    real = next(
        line["msg"]["message"]["data"]["payload"]["sdp"]
        for line in recorded("subscribe-2.0.2")
        if line["dir"] == "recv" and kind_of(line["msg"]) == "message/offer"
    )
    async with raw_client(hpb) as p, raw_client(hpb) as t:
        scenario = Scenario(p, t)
        await p.hello_member(alice)
        await p.join(alice)
        await scenario.publish()
        await t.hello_internal(backend=nextcloud.url)
        await scenario.subscribe()
        offer = next(f for f in t.received if kind_of(f) == "message/offer")
        ours = offer["message"]["data"]["payload"]["sdp"]
        found, expected = map(SessionDescription.parse, (ours, real))
        for mine, theirs in zip(found.media, expected.media, strict=True):
            assert (mine.kind, mine.port, mine.profile, mine.fmt) == (
                theirs.kind,
                theirs.port,
                theirs.profile,
                theirs.fmt,
            )
            assert mine.direction == theirs.direction
            assert mine.rtp.muxId == theirs.rtp.muxId
            assert mine.rtp.headerExtensions == theirs.rtp.headerExtensions
            assert mine.msid == theirs.msid
            assert mine.ice_candidates == theirs.ice_candidates == []
            assert mine.dtls is not None and theirs.dtls is not None
            assert mine.dtls.role == theirs.dtls.role
            assert [f.algorithm for f in mine.dtls.fingerprints] == [
                f.algorithm for f in theirs.dtls.fingerprints
            ]
        await scenario.close()
