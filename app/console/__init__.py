"""The Platform Console's dialect: the calls of /admin with the console's names and shapes. See docs/console.md.

It only translates: the rules are in services of `app.admin`. `customers` and `sales` have the routes, `requests` the
queries and bodies, `responses` the answers, `values` the translation of stages, statuses and times. To remove it,
delete this folder, its tests and its document, and the lines of main, settings, openapi and docs that name it.
"""
