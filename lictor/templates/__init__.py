"""What Lictor generates or ships: service definitions, units, Docker and Consul files.

`services/NAME.yml` is a ready service: `template: NAME` in config.yml lays it under the service's
own keys. The files are data: nothing here runs, and nothing in them is particular to one host.
"""
