"""Tests of `lictor/core`."""
