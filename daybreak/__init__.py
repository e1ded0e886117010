"""The program a person runs: Dagster definitions, command line, local instance, sample data."""
