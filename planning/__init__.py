"""The mathematics of a bakery's day: frames in, frames out.

What belongs here: arithmetic on frames that hold every tenant of a batch. What does not: Dagster, a database, a clock,
a network. A function that needs today's date is given it.
"""
