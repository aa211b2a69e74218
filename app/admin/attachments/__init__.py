"""Attachments: files that belong to customers, deals, activities and projects."""
