"""Tests of `lictor/core/runtime`."""
