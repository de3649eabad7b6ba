"""How far a model is loaded, from what servers print, from the cache, and from the last times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lictor.core.planning.model_progress import MARKERS, estimate, median, percent_in

VLLM = """\
INFO 11-21 17:00:00 [core.py:58] Initializing a V1 LLM engine (v0.10.0) with config: model='Qwen/Q'
INFO 11-21 17:00:03 [gpu_model_runner.py:1595] Starting to load model Qwen/Qwen2.5-7B-Instruct-AWQ...
\rLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]
\rLoading safetensors checkpoint shards:  50% Completed | 1/2 [00:20<00:20, 20.1s/it]
\rLoading safetensors checkpoint shards: 100% Completed | 2/2 [00:41<00:00, 20.9s/it]
INFO 11-21 17:00:45 [default_loader.py:262] Loading weights took 41.8 seconds
INFO 11-21 17:00:45 [gpu_model_runner.py:1624] Model loading took 5.2008 GiB and 42.1 seconds
INFO 11-21 17:01:02 [backends.py:215] torch.compile takes 12.4 s in total
INFO 11-21 17:01:05 [kv_cache_utils.py:849] GPU KV cache size: 60,848 tokens
Capturing CUDA graph shapes:  50%|#####     | 34/67 [00:06<00:06,  5.1it/s]
INFO 11-21 17:01:20 [gpu_model_runner.py:2113] Graph capturing finished in 14 secs, took 0.5 GiB
INFO:     Application startup complete.
"""


def test_each_further_line_of_vllm_is_further_on():
    seen = [
        percent_in("\n".join(VLLM.splitlines()[: n + 1])) for n in range(len(VLLM.splitlines()))
    ]
    assert None not in seen[:1]
    assert seen == sorted(seen)
    assert seen[-1] == 99
    assert len(set(seen)) >= 10


def test_the_older_words_of_vllm_are_known_too():
    assert percent_in("INFO model_runner.py:1072] Starting to load model x") == 6
    assert percent_in("INFO model_runner.py:1077] Loading model weights took 5.2 GB") is None
    assert percent_in("worker: model weights take 5.20GiB; non_torch_memory takes 0.1GiB") == 68
    assert percent_in("# GPU blocks: 3803, # CPU blocks: 4681") == 82
    assert percent_in("Capturing the model for CUDA graphs. This may lead to") == 84


def test_a_bar_that_was_read_in_the_middle_of_its_line_counts():
    assert percent_in("\rLoading safetensors checkpoint shards:  25% Completed | 1/4 [00:0") == 22
    assert percent_in("nothing of interest") is None


def test_a_share_over_the_whole_is_not_believed():
    assert percent_in("Loading safetensors checkpoint shards: 999% Completed") == 73 - 8


@pytest.mark.parametrize("marker", MARKERS, ids=lambda marker: marker.pattern.pattern[:30])
def test_no_marker_claims_the_hundredth_percent(marker):
    assert 0 < marker.low < 100
    assert marker.high == 0 or marker.low < marker.high < 100
    assert marker.pattern.groups == (1 if marker.high else 0)


def test_the_log_goes_before_the_folder_and_the_folder_before_the_time():
    known = {"elapsed": 30.0, "size": 1000, "durations": (50.0, 60.0, 70.0)}
    assert estimate("m", marked=42, grown=900, **known).percent == 42
    assert estimate("m", marked=None, grown=900, **known).percent == 90
    assert estimate("m", marked=None, grown=0, **known).percent == 50


def test_the_time_left_comes_from_the_last_starts_and_is_not_invented_when_they_are_over():
    told = estimate("m", elapsed=30, marked=None, grown=0, size=None, durations=(50, 60, 400))
    assert (told.eta, told.reason().code) == (30, "model.loading_eta")
    late = estimate("m", elapsed=70, marked=50, grown=0, size=None, durations=(50, 60, 400))
    assert (late.eta, late.reason().code) == (None, "model.loading_percent")
    first = estimate("m", elapsed=70, marked=None, grown=0, size=None, durations=())
    assert (first.percent, first.eta, first.reason().code) == (None, None, "model.loading")
    fetched = estimate("m", elapsed=70, marked=None, grown=7, size=None, durations=())
    assert (fetched.reason().code, fetched.reason().params["bytes"]) == ("model.downloading", 7)


def test_the_median_is_the_middle():
    assert median([]) is None
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0]) == 2.5


@given(
    elapsed=st.floats(0, 1e7),
    marked=st.none() | st.integers(0, 99),
    grown=st.integers(0, 10**13),
    size=st.none() | st.integers(1, 10**13),
    durations=st.lists(st.floats(0, 1e6), max_size=5),
)
def test_what_is_told_is_always_a_share_below_the_whole(elapsed, marked, grown, size, durations):
    told = estimate(
        "m", elapsed=elapsed, marked=marked, grown=grown, size=size, durations=durations
    )
    assert told.percent is None or 0 <= told.percent < 100
    assert told.eta is None or told.eta >= 1
    assert told.reason().params["model"] == "m"
