"""Moving an organization's data in from the Go service that this one replaces: `crm import-go`.

`source.py` reads that service's database, `mapping.py` makes of each of its rows what this service can keep,
`report.py` adds up what there is and what becomes of it, and `target.py` writes it here.
"""
