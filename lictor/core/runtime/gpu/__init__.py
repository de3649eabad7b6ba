"""The cards of this host: who is given what, who holds what, and the proof that it is free again."""
