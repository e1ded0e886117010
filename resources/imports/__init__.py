"""Imports: CSV files of every kind, checked against their contract and written in one transaction.

`values` reads one cell, `contracts` is the table of kinds, `importer` applies it. No statement about a single kind in the
importer but the ones that the table names.
"""
