"""
G7: the product beside a model of it. A program of random steps is done to both, and after each step all that the product
answered, and all that its database holds, must be what the model says.

    still_loop.py   an event loop on which no time passes unless a step lets it
    supplier.py     ConnectedYou as a function, behind the `Line` protocol: what it may say to an order, and its ledger
    processes.py    two servers on one database, called without a socket, which may die and whose database may refuse
    prediction.py   the model: orders, attempts, flights, the clock
    on_file.py      what the database holds, to compare
    machine.py      the steps, as rules of a Hypothesis state machine
"""
