"""Performance claims: one module per claim, each run with `python -m bench.<name>`, all of them with `python -m bench`.

Each prints what was measured and its ratio to a floor or a peer measured in the same run: these machines are shared
and noisy, so an absolute time says little.
"""
