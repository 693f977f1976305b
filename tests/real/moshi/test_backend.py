"""Our moshi-server backend against the real server."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from kyutai_stream.backend import (
    ConnectRequest,
    Flushed,
    Progress,
    Ready,
    Word,
)
from kyutai_stream.backends.moshi_server import MoshiServerBackend
from kyutai_stream.errors import AuthError, CapacityError, ConfigError, ConnectFailed
from kyutai_stream.testing import check_backend
from kyutai_stream.testing.real import RealMoshiServer
from kyutai_stream.testing.real.raw import open_raw
from kyutai_stream.testing.tones import speak

pytestmark = [pytest.mark.moshi, pytest.mark.timeout(240)]

REQUEST = ConnectRequest()


def backend_for(
    server: RealMoshiServer, *, model: str = "stt-1b-en_fr"
) -> MoshiServerBackend:
    return MoshiServerBackend(url=server.url, api_key=server.api_key, model=model)


def frames(samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    whole = np.concatenate((samples, np.zeros(-len(samples) % 1920, np.float32)))
    return list(whole.reshape(-1, 1920))


async def test_it_keeps_the_contract(listening: RealMoshiServer) -> None:
    spoken = speak("alpha bravo charlie", lead_s=0.2)
    await check_backend(backend_for(listening), speech=spoken.samples)
    await listening.wait_used_slots(0)


async def test_it_keeps_the_contract_without_steps(moshi_ready: None) -> None:
    spoken = speak("alpha bravo charlie", lead_s=0.2)
    async with RealMoshiServer(model="listen", extra_heads=False) as server:
        backend = backend_for(server, model="stt-2.6b-en")
        await check_backend(backend, speech=spoken.samples)


async def test_it_hears_words_at_their_times(listening: RealMoshiServer) -> None:
    spoken = speak("alpha bravo charlie delta echo", lead_s=0.2, tail_s=1.0)
    sent = frames(spoken.samples)
    heard: list[Word] = []
    async with backend_for(listening).connect(REQUEST) as connection:
        for frame in sent:
            await connection.send(frame)
        await connection.request_flush(5)
        processed = 0
        async for event in connection:
            match event:
                case Word():
                    heard.append(event)
                case Progress():
                    processed = event.frames_processed
                case Flushed():
                    break
                case _:
                    pass
    assert processed >= len(sent)
    assert [word.text for word in heard] == [word.text for word in spoken.words]
    assert [word.start for word in heard] == pytest.approx(
        [word.start for word in spoken.words], abs=0.08
    )


async def test_refusals_are_told_apart(scripted: RealMoshiServer) -> None:
    backend = backend_for(scripted)
    url, key = scripted.url, scripted.api_key
    with pytest.raises(AuthError):
        async with MoshiServerBackend(url=url, api_key="no").connect(REQUEST):
            pass
    with pytest.raises(ConfigError):
        wrong = url.replace("asr-streaming", "nothing")
        async with MoshiServerBackend(url=wrong, api_key=key).connect(REQUEST):
            pass
    async with open_raw(url, key), open_raw(url, key):
        with pytest.raises(CapacityError):
            async with backend.connect(REQUEST):
                pass
    await scripted.wait_used_slots(0)
    await scripted.stop()
    with pytest.raises(ConnectFailed):
        async with backend.connect(REQUEST):
            pass


async def test_a_hanging_server_is_not_ready(scripted: RealMoshiServer) -> None:
    backend = MoshiServerBackend(
        url=scripted.url,
        api_key=scripted.api_key,
        open_timeout_s=1.0,
        ready_timeout_s=1.0,
    )
    scripted.pause()
    with pytest.raises(ConnectFailed):
        async with backend.connect(REQUEST):
            pass
    scripted.resume()
    async with backend.connect(REQUEST) as connection:
        async for event in connection:
            assert isinstance(event, Ready)
            break
