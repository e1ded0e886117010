"""What the platform talks to: the store and its migrations, the embedded server, imports, the clock.

What belongs here: input and output. What does not: arithmetic (planning/) and Dagster assets (planning_assets/).
"""
