"""Work in the background: jobs that people asked for, the queue, and the workers."""
