"""The checklist of docs/reference/consul-faults.md: each test is named by its marker's line."""
