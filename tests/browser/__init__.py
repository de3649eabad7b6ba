"""The dashboard as people use it: real Chromium, the real agent, real services."""
