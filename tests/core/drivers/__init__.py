"""Tests of `lictor/core/drivers`."""
