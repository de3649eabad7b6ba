"""The agent and the host it runs on: what it owes to it, tells it, looks at and installs."""
