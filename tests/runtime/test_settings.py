"""The command line goes over config.json, which goes over built-in values."""

from __future__ import annotations

import pytest

from llamafile_runtime.engine.request import SamplingParams
from llamafile_runtime.errors import BadRequest
from llamafile_runtime.format.config import PackedConfig, SamplingDefaults, ServerDefaults
from llamafile_runtime.settings import Settings, from_config, sampling_params

PACKED = PackedConfig(
    system_prompt="Be kind.",
    sampling=SamplingDefaults(temperature=0.2, seed=7, max_tokens=9),
    server=ServerDefaults(port=9000, context=0),
)


def test_order() -> None:
    merged = Settings(temperature=0.0, port=1).over(from_config(PACKED))
    assert (merged.temperature, merged.port) == (0.0, 1)
    assert (merged.seed, merged.system_prompt, merged.context) == (7, "Be kind.", 0)


def test_given_names_what_was_said() -> None:
    assert Settings(temperature=0.0, browser=False).given == {"temperature", "browser"}


def test_sampling() -> None:
    params = sampling_params(from_config(PACKED))
    assert (params.temperature, params.seed, params.max_tokens) == (0.2, 7, 9)
    assert params.top_k == SamplingParams().top_k


def test_minus_one_means_none() -> None:
    params = sampling_params(Settings(seed=-1, max_tokens=-1).over(from_config(PACKED)))
    assert params.seed is None
    assert params.max_tokens is None


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=float("nan")),
        SamplingParams(top_p=1.5),
        SamplingParams(min_p=-0.1),
        SamplingParams(seed=1 << 32),
        SamplingParams(max_tokens=-2),
        SamplingParams(stop=("a", "")),
        SamplingParams(repeat_penalty=float("inf")),
    ],
)
def test_values_out_of_range_are_refused(params: SamplingParams) -> None:
    with pytest.raises(BadRequest):
        params.check()


def test_the_defaults_are_in_range() -> None:
    SamplingParams().check()
