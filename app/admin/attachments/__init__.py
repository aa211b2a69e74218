"""Attachments: files that belong to customers, deals and activities."""
