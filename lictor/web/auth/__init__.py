"""Who may do what over HTTP: people, their credentials, the table of rights, and the borders."""
