"""Projects: work larger than a task, and its tasks."""
