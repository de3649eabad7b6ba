"""Tests of `lictor/core/probes`."""
