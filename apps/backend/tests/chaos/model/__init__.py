"""
G7: the product beside a model of it. A program of random steps is done to both, and after each step all that the product
answered, and all that its database holds, must be what the model says.

    still_loop.py   an event loop on which no time passes unless a step lets it
    supplier.py     ConnectedYou as a function, behind the `Line` protocol: what it may say to an order, and its ledger
    processes.py    two servers on one database, called without a socket, which may die and whose database may refuse
    world.py        these together, for all programs of a run
    prediction.py   the model: orders, attempts, flights, the clock
    replies.py      what callers are to be told
    on_file.py      what the database holds, to compare
    stepping.py     a program under way: who waits, what is compared
    acts.py         what is done to product and model alike
    buying.py, failing.py, settling.py   the steps, as rules (`steps.py`) of a Hypothesis state machine (`machine.py`)
"""
