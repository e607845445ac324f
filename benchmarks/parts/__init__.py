"""The parts: each module measures one thing in its function ``run(bench)``.

The first line of a module's docstring is its title in the output and in ``--help``.
"""
