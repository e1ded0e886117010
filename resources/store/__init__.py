"""The store: Postgres, its migrations and every SQL statement of the platform.

`database` opens it, `migrate` shapes it, `versions` counts what changed, `master` keeps tenants and their master data,
`inputs` reads what a batch of tenants needs, `plans` writes what it made.
"""
