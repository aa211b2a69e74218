"""The Platform Console's dialect: the calls of /admin under the names and shapes that the console knows.

A translation and nothing else: `routes` are the calls, `forms` what comes in, `answers` what goes out, `values` what
the console knows fewer of. The rules are those of the services under `app.admin`. To take it out, delete this folder,
its tests and its document, and the lines of main, settings, openapi and docs that name it.
"""
