"""HTTP, without a word of CRM."""
