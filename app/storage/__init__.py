"""The bytes of attachments: the object store, and how a file is received, measured and recognized on its way there."""
