"""What a user's own environment and agent must return, and the line that says where they do not.

    env = checked_env(env, "env='corridor:make'")
    agent = checked_agent(make_agent, config, spec, None)

A checked environment or agent has the same functions, each of which looks at what comes back while it is traced: structures,
shapes and dtypes, so a compiled program is as fast as without. What breaks a contract is a `ContractError` of one line; what a
function raises is an `OwnCodeError` that says in which it was. The code of this package has its tests and goes unchecked.
"""
