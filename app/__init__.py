"""A headless, multi-tenant CRM over HTTP."""
