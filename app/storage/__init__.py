"""The bytes of attachments: the object store, and what is found out about a file on its way there."""
