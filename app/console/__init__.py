"""The Platform Console's dialect: the calls of /admin under the names and shapes that the console knows.

A translation and nothing else: `routes` are the calls, `forms` what comes in, `answers` what goes out, `values` what
the console knows fewer of. The rules are those of the services under `app.admin`. Deleting this folder, its line in
`app.main` and its tests takes the dialect out.
"""
