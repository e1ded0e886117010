"""The lineage: assets, partitions and jobs, from sales to purchase orders.

What belongs here: what an asset is, which rows it reads, which function computes it, where it is written. What does not:
arithmetic (planning/) and SQL (resources/store).
"""
