"""The HTTP side of the agent. FastAPI lives here and nowhere else.

It is loaded after the first services were started. So far it answers the two open questions that
Consul and load balancers ask; everything that needs a credential comes with the API.
"""
