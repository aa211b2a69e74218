"""What workers and replicas share through Redis or Valkey, if one is configured. All of it may be lost at any time."""
