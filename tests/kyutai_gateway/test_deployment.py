"""What can be chosen when deploying, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kyutai_gateway import pins
from kyutai_gateway.deployment import (
    PREFIX,
    Deployment,
    DeploymentError,
    check_workspace,
)
from kyutai_gateway.moshi_config import SHAPES
from kyutai_gateway.serving import MAX_MESSAGE
from kyutai_stream.backends.modal import workspace_url

ROOT = Path(__file__).parents[2]


def read(**variables: str) -> Deployment:
    return Deployment.read(
        {f"{PREFIX}{name.upper()}": value for name, value in variables.items()}
    )


def test_by_default_it_is_small() -> None:
    chosen = read()
    assert (chosen.gpu.name, chosen.streams) == ("L4", 24)
    assert (chosen.min_containers, chosen.max_containers) == (0, 2)
    assert chosen.flavour == "function"
    settings = chosen.settings()
    # Checked by Modal's proxy; the route that has no proxy is refused by a test of
    # the deployment.
    assert settings.auth == "none"
    assert settings.slots == 24
    assert settings.max_stream_s == chosen.timeout_s - 60
    assert settings.start_timeout_s < chosen.startup_s
    # A forgotten stream does not keep a GPU running for ever.
    assert settings.quiet_timeout_s <= 3600
    assert settings.idle_timeout_s <= 300


@pytest.mark.parametrize("name", list(pins.GPUS))
def test_each_gpu_has_room_for_probes_and_starts_the_next_in_time(name: str) -> None:
    chosen = read(gpu=name.lower())
    assert chosen.streams < chosen.max_inputs <= 1000
    assert chosen.target_inputs <= 0.75 * chosen.streams
    assert f"CUDA_COMPUTE_CAP={chosen.gpu.compute_cap} " in "".join(
        pins.build_commands(chosen.gpu.compute_cap)
    )


def test_older_names_of_gpus_are_known() -> None:
    assert read(gpu="A10G").gpu.name == "A10"
    assert read(gpu="A100").gpu.name == "A100-40GB"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"gpu": "T4"}, "has no bf16"),
        ({"gpu": "B200"}, "one of L4, A10, L40S"),
        ({"slots": "many"}, "a whole number"),
        ({"slots": "999"}, "Modal allows 1000"),
        ({"slots": "9999"}, "from 0 to 1024"),
        ({"timeout_s": "60"}, "from 300 to 86400"),
        ({"min_containers": "3"}, "more than KYUTAI_MODAL_MAX_CONTAINERS"),
        ({"routing_region": "frankfurt"}, "one of us-east, us-west, eu-west"),
        ({"model": "stt-9b"}, "one of stt-1b-en_fr, stt-2.6b-en"),
        ({"model": "stt-2.6b-en"}, "KYUTAI_MODAL_REVISION is not set"),
        ({"revision": "main"}, "a commit of 40 digits"),
        ({"flavour": "tunnel"}, "function, server or both"),
        ({"gpus": "L4"}, "is no variable of a deployment"),
        ({"gateway": "x"}, "is no variable of a deployment"),
    ],
)
def test_what_is_refused(variables: dict[str, str], told: str) -> None:
    with pytest.raises(DeploymentError, match=told) as caught:
        read(**variables)
    assert PREFIX in str(caught.value)


def test_settings_of_the_gateway_go_with_it() -> None:
    chosen = Deployment.read({"KYUTAI_GATEWAY_TEMPERATURE": "0.25"})
    assert chosen.settings().temperature == 0.25
    assert chosen.environment()["KYUTAI_GATEWAY_TEMPERATURE"] == "0.25"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AUTH", "pair", "is set by the deployment"),
        ("SLOTS", "99", "use the variables that begin with KYUTAI_MODAL_"),
        ("TEMPERATURE", "hot", "a number from 0 to 2"),
        ("TEMPRATURE", "1", "did you mean KYUTAI_GATEWAY_TEMPERATURE"),
    ],
)
def test_wrong_settings_of_the_gateway_are_found_before_deploying(
    name: str, value: str, told: str
) -> None:
    with pytest.raises(DeploymentError, match=told):
        Deployment.read({f"KYUTAI_GATEWAY_{name}": value})


def test_a_container_reads_back_what_was_chosen() -> None:
    chosen = read(
        gpu="H100", slots="32", flavour="both", model="stt-2.6b-en", revision="a" * 40
    )
    again = Deployment.read(chosen.environment())
    assert again.environment() == chosen.environment()
    assert again.weights == f"/weights/stt-2.6b-en/{'a' * 40}"
    assert SHAPES["stt-2.6b-en"].tokenizer_name in again.download_command


@given(
    st.dictionaries(
        st.sampled_from(
            [PREFIX + name.upper() for name in ("gpu", "slots", "timeout_s", "image")]
            + ["KYUTAI_GATEWAY_SLOTS", "KYUTAI_GATEWAY_CODEBOOKS", PREFIX + "MODEL"]
        ),
        st.text(max_size=20),
    )
)
def test_any_environment_is_taken_or_refused_in_words(environ: dict[str, str]) -> None:
    try:
        chosen = Deployment.read(environ)
    except DeploymentError as exc:
        assert str(exc)
    else:
        assert Deployment.read(chosen.environment()).streams == chosen.streams


def test_the_label_is_the_one_that_clients_know() -> None:
    label = pins.web_label(pins.APP, pins.FUNCTION_CLASS, pins.METHOD)
    assert workspace_url("acme") == f"wss://acme--{label}.modal.run/v1/stream"
    # The other flavour can never have it.
    assert pins.web_label(pins.APP, pins.SERVER_CLASS) != label


def test_a_workspace_whose_address_modal_would_shorten() -> None:
    check_workspace({})
    check_workspace({"MODAL_WORKSPACE": "x" * 19})
    check_workspace({"MODAL_WORKSPACE": "x" * 19, "MODAL_ENVIRONMENT": "main"})
    with pytest.raises(DeploymentError, match="longer than 19 characters"):
        check_workspace({"MODAL_WORKSPACE": "x" * 20})
    with pytest.raises(DeploymentError, match="longer than 19 characters"):
        check_workspace({"MODAL_WORKSPACE": "x" * 15, "MODAL_ENVIRONMENT": "test"})


def test_nothing_that_floats() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins.RUST)
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins.UV)
    assert re.fullmatch(r"huggingface_hub==[\d.]+", pins.HUB_CLIENT)
    assert all(re.fullmatch(r"[0-9a-f]{40}", one) for one in pins.REVISIONS.values())
    assert ":latest" not in pins.CUDA_IMAGE


def test_messages_that_modal_lets_through_are_not_too_long_for_us() -> None:
    assert MAX_MESSAGE >= 2 * 1024 * 1024
