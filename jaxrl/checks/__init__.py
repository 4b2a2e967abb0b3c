"""The contract suite: what every agent and environment promises, for those of the package and for your own.

jaxrl check my_agent:make_agent
jaxrl check corridor:make
"""
