"""The contestants of the supervision benchmark, one module each."""
