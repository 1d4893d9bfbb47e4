"""
The proof of the promise: runs that break everything under an installation, and one oracle that says whether an order suffered.

    make chaos                            the runs, one a line
    make chaos RUN=G2 N=100 SEED=7        one of them; goes on where it was stopped
    make chaos RUN=report                 the table in docs/reliability.md, from what was run

`tests/proof` runs the same functions with a small N.
"""
