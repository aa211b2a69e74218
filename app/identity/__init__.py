"""Logging in, for those without a CMS: `crm identity serve`, an application of its own.

It issues the tokens that the CRM verifies. Nothing else in `app/` knows it, and it knows nothing of customers.
"""
